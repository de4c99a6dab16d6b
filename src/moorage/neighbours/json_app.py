"""A neighbour that speaks JSON 1.1 or 1.0: the life of a request, in order.

What cannot be read is refused before anybody asks who sent the request, and what the model says of its members is
checked before what the model does not say, as in the control plane (``control.pipeline``).
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from moorage.aws import json11, validate
from moorage.aws.errors import ClientFault, ServiceError
from moorage.aws.response import Response
from moorage.aws.shapes import load_service
from moorage.aws.sigv4 import HttpRequest, header_value
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.iam.authenticate import AuthenticationFailed, Caller, Keys, as_json_error, identify
from moorage.iam.context import SECURE_HEADER, SOURCE_IP_HEADER, make_context
from moorage.iam.evaluate import Access, permissions_of
from moorage.iam.patterns import Context
from moorage.neighbours.framed import FramedApp
from moorage.neighbours.keys import KeySource

_SKEW_SECONDS = 300.0

log = logging.getLogger(__name__)

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    caller: Caller
    now: float
    source_ip: str | None
    secure: bool
    url: str
    """Scheme, host and port as the caller knows them."""

    @property
    def account(self) -> str:
        """The account that the call belongs to."""
        return self.caller.account

    @property
    def region(self) -> str:
        """The region that it is signed for."""
        return self.caller.region

    def require(self, action: str, resource: str, more: Context | None = None) -> None:
        """Refuse what the caller's policies do not allow; ``more`` is what the operation adds to the context."""
        permissions = permissions_of(self.caller.credential)
        if permissions.unlimited:
            return
        context = make_context(self.caller, now=self.now, source_ip=self.source_ip, secure=self.secure, more=more)
        access = Access(action, resource, context)
        if (denial := permissions.refuse(access)) is not None:
            raise ClientFault("AccessDeniedException", denial.text(self.caller.credential.user_arn, access))


def _no_query_code(_code: str) -> None:
    """Give none: the service has always spoken JSON."""


Perform = Callable[[Call, Members], Awaitable[dict[str, Any]]]


class JsonApp(FramedApp):
    """An ASGI application that answers as a service of AWS does that speaks JSON 1.1."""

    def __init__(  # noqa: PLR0913 - what a service consists of
        self,
        service: str,
        operations: Mapping[str, Perform],
        keys: KeySource,
        clock: Clock,
        ids: Ids,
        *,
        violation_code: str,
        longest_body_bytes: int,
        content_type: str = json11.CONTENT_TYPE,
        query_code: Callable[[str], str | None] = _no_query_code,
        unchecked: Collection[tuple[str, str]] = (),
    ) -> None:
        """``service`` is botocore's name of it, and the one that requests are signed for.

        ``violation_code`` is what the service calls a request that breaks a constraint of its model. ``query_code``
        gives for an error's code the one that it had when the service spoke the query protocol. ``unchecked`` names
        members, each with its operation, of which the service takes more than its model says.
        """
        self._content_type = content_type
        self._query_code = query_code
        self._unchecked = frozenset(unchecked)
        super().__init__(ids, longest_body_bytes=longest_body_bytes)
        self._service = service
        self._operations = operations
        self._keys = keys
        self._clock = clock
        self._violation_code = violation_code

    def refuse(self, fault: ServiceError, request_id: str) -> Response:
        """Make the answer of an error."""
        return json11.error_response(fault, request_id, self._content_type, self._query_code(fault.code))

    async def perform(self, wire: HttpRequest, body: bytes | None, request_id: str) -> Response:
        """Do what is asked for, in the order of the stages."""
        if wire.method != "POST" or wire.path != "/":
            raise ClientFault("UnknownOperationException", f"Moorage has no {wire.method} {wire.path[:200]!a}.")
        target = header_value(wire, "x-amz-target")
        operation = json11.find_operation(load_service(self._service), target, self._operations)
        if body is None:
            message = f"The request body is larger than {self._longest_body_bytes} bytes."
            raise ClientFault("RequestEntityTooLargeException", message, status=413)
        members = json11.parse_request(operation, body)
        now = self._clock.now()
        caller = self._identify(wire, body, self._keys.keys, now)
        checked = {name: value for name, value in members.items() if (operation.name, name) not in self._unchecked}
        if operation.input is not None and (found := validate.violations(operation.input, checked)):
            raise ClientFault(self._violation_code, validate.message_of(found))
        secure = header_value(wire, SECURE_HEADER) == "true"
        url = f"{'https' if secure else 'http'}://{header_value(wire, 'host')}"
        call = Call(caller, now, header_value(wire, SOURCE_IP_HEADER), secure, url)
        output = await self._operations[operation.name](call, members)
        # Large answers are written beside the event loop: a page of ten thousand events takes some milliseconds.
        return await asyncio.to_thread(json11.success_response, operation, output, request_id, self._content_type)

    def _identify(self, wire: HttpRequest, body: bytes, keys: Keys, now: float) -> Caller:
        digest = hashlib.sha256(body).hexdigest()
        try:
            caller = identify(wire, digest, keys, now=now, skew_seconds=_SKEW_SECONDS)
        except AuthenticationFailed as failed:
            raise as_json_error(failed, 400) from failed
        if caller.service != self._service:
            message = f"Credential should be scoped to correct service: '{self._service}'."
            raise ClientFault("InvalidSignatureException", message)
        return caller
