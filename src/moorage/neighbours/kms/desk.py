"""What an operation of KMS works with: the ring, the caller, and which key is meant."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from moorage.aws.errors import ClientFault, ServiceError
from moorage.aws.paging import decode_token, encode_token
from moorage.iam.context import resource_tags
from moorage.iam.patterns import Context
from moorage.kms.faults import NoSuchKey
from moorage.kms.records import ALIAS, Home, Key, KeyName, read_name
from moorage.kms.ring import KeyRing
from moorage.neighbours.json_app import Call
from moorage.neighbours.kms.faults import invalid_marker, unsupported

Members = Mapping[str, Any]
Entry = TypeVar("Entry")

_MOST_ENTRIES = 100
"""Of a page that nobody asked to be longer."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One authenticated request."""

    ring: KeyRing
    call: Call

    @property
    def home(self) -> Home:
        """The caller's account and the region that the request is for."""
        return Home(self.call.account, self.call.region)

    def key(self, action: str, name: str, more: Context | None = None, *, by_alias: bool = False) -> Key:
        """Give the key that a request is about, which the caller must be allowed the action on.

        Operations that change keys do not take aliases. Raises NotFoundException, AccessDeniedException.
        """
        read = read_name(name)
        if read is None or (read.rest.startswith(ALIAS) and not by_alias):
            raise ClientFault("NotFoundException", f"Invalid keyId {name}")
        if read.home is not None and read.home.region != self.home.region:
            raise ClientFault("NotFoundException", f"Invalid arn {read.home.region}")
        self._check_account(action, read.home or self.home, name)
        try:
            key = self.ring.find(name, self.home)
        except NoSuchKey:
            raise ClientFault("NotFoundException", f"Key '{self._arn(read)}' does not exist") from None
        self._check_account(action, key.home, key.arn)
        alias: Context = {"kms:requestalias": (read.rest,)} if read.rest.startswith(ALIAS) else {}
        self.require(action, key, {**alias, **(more or {})})
        return key

    def require(self, action: str, key: Key, more: Context | None = None) -> None:
        """Refuse what the caller's policies do not allow on a key."""
        context = {**resource_tags(key.tags), "kms:calleraccount": (self.call.account,), **(more or {})}
        self.call.require(f"kms:{action}", key.arn, context)

    def _check_account(self, action: str, home: Home, resource: str) -> None:
        """Refuse keys of other accounts: their policies, which nobody can change here, do not let anybody in."""
        if home.account != self.call.account:
            user = self.call.caller.credential.user_arn
            raise ClientFault(
                "AccessDeniedException",
                f"User: {user} is not authorized to perform: kms:{action} on resource: {resource} because no "
                f"resource-based policy allows the kms:{action} action",
            )

    def _arn(self, name: KeyName) -> str:
        return (name.home or self.home).arn(f"key/{name.rest}")


def refuse_unbuilt(operation: str, members: Members, *names: str) -> None:
    """Refuse members that Moorage does not have, by name, unless they ask for nothing."""
    for name in names:
        if members.get(name):
            raise unsupported(f"{name} of {operation}")


def page(
    entries: Sequence[Entry], members: Members, name: str, position: Callable[[Entry], Sequence[str]]
) -> tuple[Sequence[Entry], dict[str, Any]]:
    """Give the entries of a page and what the answer says of further ones; ``position`` is unique and ascending.

    ``name`` is what the list is of: a marker is good for no other one. Raises InvalidMarkerException.
    """
    filters = {"list": name, "key": members.get("KeyId")}
    rest = entries
    if (marker := members.get("Marker")) is not None:
        try:
            after = decode_token(marker, filters, [str] * len(position(entries[0])) if entries else [str])
        except ServiceError as fault:
            raise invalid_marker() from fault
        rest = [entry for entry in entries if tuple(position(entry)) > after]
    limit = members.get("Limit", _MOST_ENTRIES)
    shown = rest[:limit]
    more = len(rest) > limit
    marker = encode_token(list(position(shown[-1])), filters) if more else None
    return shown, {"Truncated": more, "NextMarker": marker}
