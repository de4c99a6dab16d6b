"""The STS API: the life of a request, in order, and the list of operations.

The operation is found before anybody asks who sent the request, so that an operation that needs no signature and
that Moorage does not have is refused by its name.
"""

import hashlib
import logging
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from moorage.aws import query, validate
from moorage.aws.errors import ClientFault, ServiceError
from moorage.aws.response import Response
from moorage.aws.shapes import Operation, load_service
from moorage.aws.sigv4 import HttpRequest, header_value
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Caller, Keys, identify
from moorage.iam.context import SECURE_HEADER, SOURCE_IP_HEADER
from moorage.neighbours.framed import FramedApp
from moorage.neighbours.keys import KeySource
from moorage.neighbours.sts import operations
from moorage.neighbours.sts.operations import Call

OPERATIONS: Mapping[str, Callable[[Call, Mapping[str, Any]], dict[str, Any]]] = {
    "GetCallerIdentity": operations.get_caller_identity,
    "AssumeRole": operations.assume_role,
    "GetSessionToken": operations.get_session_token,
}

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_SKEW_SECONDS = 300.0
_MOST_BYTES = 65_536
_ID_LETTERS = string.ascii_uppercase + "234567"

_CODES = {
    AuthFailure.MISSING: "MissingAuthenticationToken",
    AuthFailure.MALFORMED: "IncompleteSignature",
    AuthFailure.UNKNOWN_KEY: "InvalidClientTokenId",
    AuthFailure.BAD_TOKEN: "InvalidClientTokenId",
    AuthFailure.EXPIRED_TOKEN: "ExpiredToken",
    AuthFailure.BAD_SIGNATURE: "SignatureDoesNotMatch",
    AuthFailure.EXPIRED: "SignatureDoesNotMatch",
    AuthFailure.SKEWED: "SignatureDoesNotMatch",
}
_ABOUT_TOKENS = frozenset({AuthFailure.UNKNOWN_KEY, AuthFailure.BAD_TOKEN})

log = logging.getLogger(__name__)


class StsApp(FramedApp):
    """An ASGI application that answers as STS does."""

    def __init__(self, keys: KeySource, clock: Clock, ids: Ids) -> None:
        super().__init__(ids, longest_body_bytes=_MOST_BYTES)
        self._keys = keys
        self._clock = clock

    def refuse(self, fault: ServiceError, request_id: str) -> Response:
        """Make the answer of an error."""
        return query.error_response(fault, request_id, _NAMESPACE)

    async def perform(self, wire: HttpRequest, body: bytes | None, request_id: str) -> Response:
        """Do what is asked for, in the order of the stages."""
        if body is None:
            message = f"The request body is larger than {_MOST_BYTES} bytes."
            raise ClientFault("RequestEntityTooLarge", message, status=413)
        parameters = query.read_form(body.decode("utf-8", "replace") if wire.method == "POST" else wire.query)
        operation = query.find_operation(load_service("sts"), parameters)
        keys, now = self._keys.keys, self._clock.now()
        caller = _identify(wire, body, keys, now)
        members = query.parse_request(operation, parameters)
        _check_constraints(operation, members)
        secure = header_value(wire, SECURE_HEADER) == "true"
        call = Call(caller, keys, now, header_value(wire, SOURCE_IP_HEADER), secure, _new_key_id())
        output = OPERATIONS[operation.name](call, members)
        return query.success_response(operation, output, request_id, _NAMESPACE)


def _identify(wire: HttpRequest, body: bytes, keys: Keys, now: float) -> Caller:
    try:
        caller = identify(wire, hashlib.sha256(body).hexdigest(), keys, now=now, skew_seconds=_SKEW_SECONDS)
    except AuthenticationFailed as failed:
        # STS ends its text about a token without a full stop.
        message = failed.message.removesuffix(".") if failed.failure in _ABOUT_TOKENS else failed.message
        raise ClientFault(_CODES[failed.failure], message, status=403) from failed
    if caller.service != "sts":
        message = "Credential should be scoped to correct service: 'sts'."
        raise ClientFault("SignatureDoesNotMatch", message, status=403)
    return caller


def _check_constraints(operation: Operation, members: Mapping[str, Any]) -> None:
    if operation.input is not None and (found := validate.violations(operation.input, members)):
        raise ClientFault("ValidationError", validate.message_of(found))


def _new_key_id() -> str:
    return "ASIA" + "".join(secrets.choice(_ID_LETTERS) for _ in range(16))
