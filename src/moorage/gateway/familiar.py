"""What a gateway remembers, under one snapshot, of the invocations that it has let through.

Most invocations differ from an earlier one only in time, signature, body and a few values. Who may call what with
which headers has been decided then: ``recognise`` checks what can differ and takes the rest from memory. It only ever
says yes. What is not known, and whatever fails, goes through ``stages.ADMISSION``, which alone has the errors; so
forgetting is always safe, and a new snapshot begins with an empty memory.

Not remembered are invocations that somebody's policies were asked about, and those with a session token.
"""

import re
from collections.abc import Sequence
from typing import Any

from moorage.aws import rest_json
from moorage.aws.errors import ServiceError
from moorage.aws.shapes import Operation
from moorage.aws.sigv4 import MalformedSignature, Signature, timestamp_of
from moorage.aws.sigv4_again import Verifier
from moorage.gateway.head_form import HeadForm
from moorage.gateway.stages import SKEW_SECONDS, Invocation, check_members, make_forwarded, signature_of
from moorage.iam.authenticate import Caller
from moorage.iam.evaluate import permissions_of
from moorage.routing.decide import Routes

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_SIGNATURE_DIGITS = 64

_MOST_KNOWN = 4_096
_MOST_VALUES = 256


class Known:
    """Invocations of one endpoint by one caller with the same headers: what is the same in all of them."""

    __slots__ = (
        "_api_values",
        "_headers",
        "_passed",
        "caller",
        "date",
        "labels",
        "operation",
        "routes",
        "signed_values",
        "verifier",
    )

    def __init__(self, invocation: Invocation, form: HeadForm, signature: Signature) -> None:
        self.operation: Operation = invocation.operation
        self.labels = invocation.labels
        self.caller: Caller = invocation.caller
        self.routes: Routes = invocation.routes
        secret = invocation.caller.credential.secret_access_key
        self.verifier = Verifier(signature, secret, invocation.head.method, invocation.head.path)
        # Never fewer than two, so it gives a tuple: Host and each x-amz-* must be signed.
        self.signed_values = form.taker(signature.signed_headers)
        self.date = form.taker(("x-amz-date",))
        api = rest_json.header_members(self.operation)
        self._headers = tuple(name for name in form.names if name in api)
        self._api_values = form.taker(("host", *self._headers))
        self._passed: dict[Any, tuple[dict[str, Any], bytes]] = {}

    def members_of(self, values: Sequence[bytes]) -> tuple[dict[str, Any], bytes] | None:
        """Give the members, and the lines for the container, of a head with these values.

        None when the values break a modelled constraint. Those that have passed are remembered for a while.
        """
        key = self._api_values(values)
        found = self._passed.get(key)
        if found is None:
            given = () if isinstance(key, bytes) else key[1:]
            headers = [(name, value.decode()) for name, value in zip(self._headers, given, strict=True)]
            try:
                members = rest_json.read_headers(self.operation, headers)
                members.update(self.labels)
                rest_json.check(self.operation, members)
                check_members(self.routes, members)
            except ServiceError:
                return None
            found = (members, make_forwarded(self.operation, dict(headers)))
            if len(self._passed) >= _MOST_VALUES:
                self._passed.clear()
            self._passed[key] = found
        return found


class Familiar:
    """The memory; it starts anew when it is full."""

    def __init__(self) -> None:
        self._known: dict[tuple[HeadForm, bytes, bytes], Known] = {}
        self._date = b""
        self._signed_at = 0.0
        """What ``_date`` is in seconds: most that come in one second were signed in one."""

    def __repr__(self) -> str:
        return f"<Familiar: {len(self._known)} known>"

    def recognise(self, invocation: Invocation) -> bool:
        """Fill in what ``stages.ADMISSION`` would fill in; False when that has to be asked."""
        head = invocation.head
        form, values = head.form, head.values
        if form is None:
            return False
        authorization = values[form.authorization]
        known = self._known.get((form, values[0], authorization[:-_SIGNATURE_DIGITS]))
        if known is None:
            return False
        amz_date: bytes = known.date(values)
        if not amz_date.startswith(known.verifier.date) or not self._is_now(amz_date, invocation.now):
            return False
        signed, digits = known.signed_values(values), authorization[-_SIGNATURE_DIGITS:]
        if not known.verifier.verify(signed, amz_date, invocation.payload_sha256, digits):
            return False
        passed = known.members_of(values)
        if passed is None:
            return False
        invocation.operation = known.operation
        invocation.labels = known.labels
        invocation.caller = known.caller
        invocation.members, invocation.forwarded = passed
        invocation.routes = known.routes
        return True

    def learn(self, invocation: Invocation) -> None:
        """Remember an invocation that was read quickly and has been let through."""
        head, credential = invocation.head, invocation.caller.credential
        form = head.form
        if (
            form is None
            or credential.session is not None
            or "x-amz-security-token" in form.names
            or not permissions_of(credential).unlimited
            or _PLAIN_PATH.fullmatch(head.target) is None
        ):
            return
        signature = signature_of(head)
        authorization = head.values[form.authorization]
        if signature is None or not authorization.endswith(b"Signature=" + signature.signature.encode()):
            return
        if len(signature.signature) != _SIGNATURE_DIGITS or len(set(signature.signed_headers)) < len(
            signature.signed_headers
        ):
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[form, head.values[0], authorization[:-_SIGNATURE_DIGITS]] = Known(invocation, form, signature)

    def _is_now(self, amz_date: bytes, now: float) -> bool:
        if amz_date != self._date:
            try:
                self._signed_at = timestamp_of(amz_date.decode())
            except MalformedSignature:
                return False
            self._date = amz_date
        return -SKEW_SECONDS <= now - self._signed_at <= SKEW_SECONDS
