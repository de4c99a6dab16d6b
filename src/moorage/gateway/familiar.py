"""What a gateway remembers, under one snapshot, of the invocations that it has let through.

Most invocations differ from an earlier one only in time, signature, body and a few values. Who may call what with
which headers has been decided then: ``recognise`` checks what can differ and takes the rest from memory. It only ever
says yes. What is not known, and whatever fails, goes through ``stages.ADMISSION``, which alone has the errors; so
forgetting is always safe, and a new snapshot begins with an empty memory.

Not remembered are invocations that somebody's policies were asked about, and those with a session token.
"""

import re
from typing import Any

from moorage.aws import rest_json
from moorage.aws.errors import ServiceError
from moorage.aws.shapes import Operation
from moorage.aws.sigv4 import HttpRequest, MalformedSignature, read_signature, timestamp_of
from moorage.aws.sigv4_again import Verifier
from moorage.gateway.stages import SKEW_SECONDS, Invocation
from moorage.iam.authenticate import Caller
from moorage.iam.evaluate import permissions_of
from moorage.routing.decide import Routes

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+")
_SIGNATURE = "Signature="

_MOST_KNOWN = 4_096
_MOST_VALUES = 256


class Known:
    """Invocations of one endpoint by one caller with the same headers: what is the same in all of them."""

    __slots__ = ("caller", "checked", "headers", "labels", "operation", "routes", "verifier")

    def __init__(self, invocation: Invocation, verifier: Verifier) -> None:
        self.operation: Operation = invocation.operation
        self.labels = invocation.labels
        self.caller: Caller = invocation.caller
        self.routes: Routes = invocation.routes
        self.verifier = verifier
        self.headers = tuple(
            name for name in invocation.head.fields if name in rest_json.header_members(self.operation)
        )
        """Those that are members of the API."""
        self.checked: dict[tuple[str, ...], dict[str, Any]] = {}
        """Members by the values of ``headers`` that have passed the modelled constraints."""

    def members_of(self, values: tuple[str, ...]) -> dict[str, Any] | None:
        """Give the members of an invocation with these values; None when they have to be looked at in full."""
        members = self.checked.get(values)
        if members is None:
            try:
                members = rest_json.read_headers(self.operation, list(zip(self.headers, values, strict=True)))
                members.update(self.labels)
                rest_json.check(self.operation, members)
            except ServiceError:
                return None
            if len(self.checked) >= _MOST_VALUES:
                self.checked.clear()
            self.checked[values] = members
        return members


class Familiar:
    """The memory; it starts anew when it is full."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Known] = {}

    def __repr__(self) -> str:
        return f"<Familiar: {len(self._known)} known>"

    def recognise(self, invocation: Invocation) -> bool:
        """Fill in what ``stages.ADMISSION`` would fill in; False when that has to be asked."""
        head = invocation.head
        fields = head.fields
        authorization = fields.get("authorization", "")
        cut = authorization.rfind(_SIGNATURE)
        known = self._known.get((head.target, authorization[:cut], *fields))
        if known is None:
            return False
        amz_date = fields["x-amz-date"]
        if amz_date[:8] != known.verifier.date:
            return False
        try:
            age = invocation.now - timestamp_of(amz_date)
        except MalformedSignature:
            return False
        if not -SKEW_SECONDS <= age <= SKEW_SECONDS:
            return False
        members = known.members_of(tuple([fields[name] for name in known.headers]))
        if members is None:
            return False
        if not known.verifier.verify(fields, invocation.payload_sha256, authorization[cut + len(_SIGNATURE) :]):
            return False
        invocation.operation = known.operation
        invocation.labels = known.labels
        invocation.caller = known.caller
        invocation.members = members
        invocation.routes = known.routes
        return True

    def learn(self, invocation: Invocation) -> None:
        """Remember an invocation that has been let through."""
        head, credential = invocation.head, invocation.caller.credential
        fields = head.fields
        if (
            credential.session is not None
            or not permissions_of(credential).unlimited
            or not {"authorization", "x-amz-date"} <= fields.keys()
            or "x-amz-security-token" in fields
            or len(fields) != len(head.headers)
            or not all(fields[name] for name in fields)
            or _PLAIN_PATH.fullmatch(head.target) is None
        ):
            return
        signature = read_signature(HttpRequest(head.method, head.path, head.query, head.headers))
        if signature is None or signature.presigned:
            return
        verifier = Verifier(signature, credential.secret_access_key, head.method, head.path)
        authorization = fields["authorization"]
        key = (head.target, authorization[: authorization.rfind(_SIGNATURE)], *fields)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = Known(invocation, verifier)
