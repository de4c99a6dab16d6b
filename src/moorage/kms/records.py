"""Keys and aliases as values, and their names."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from moorage.aws.arns import partition_of

ALIAS = "alias/"
SERVICE_ALIAS = "alias/aws/"
"""Begins the names of what is made for a service, on first use."""

SERVICES = ("s3", "sagemaker")
"""Those that a key is made for."""

_ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):([0-9]{12}):(key/[A-Za-z0-9-]+|alias/[A-Za-z0-9/_-]+)")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Home:
    """Where keys and aliases live: those of other accounts and regions have nothing to do with them."""

    account: str
    region: str

    def arn(self, rest: str) -> str:
        """Give the ARN of ``key/ID`` or ``alias/NAME``."""
        return f"arn:{partition_of(self.region)}:kms:{self.region}:{self.account}:{rest}"


class KeyState(StrEnum):
    """What may be done with a key; the values are AWS's."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its material."""

    key_id: str
    """A UUID."""
    home: Home
    created_at: float
    """Seconds since the epoch."""
    description: str = ""
    state: KeyState = KeyState.ENABLED
    deletion_at: float | None = None
    """When its material is destroyed; None: never."""
    service: str | None = None
    """The service that it was made for; None: a customer made it."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """Its name everywhere."""
        return self.home.arn(f"key/{self.key_id}")

    def gone(self, now: float) -> bool:
        """Say whether the time of its deletion has come."""
        return self.deletion_at is not None and now >= self.deletion_at


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of a key."""

    name: str
    """``alias/...``"""
    home: Home
    key_id: str
    created_at: float
    updated_at: float

    @property
    def arn(self) -> str:
        """Its name everywhere."""
        return self.home.arn(self.name)


@dataclass(frozen=True, slots=True)
class KeyName:
    """What a caller calls a key: where it lives, and its id or one of its aliases."""

    home: Home | None
    """None: the name does not say."""
    rest: str
    """A key's id, or ``alias/NAME``."""


def read_name(text: str) -> KeyName | None:
    """Take apart an id, alias or ARN of a key; None when it is neither."""
    if found := _ARN.fullmatch(text):
        region, account, rest = found.groups()
        return KeyName(Home(account, region), rest.removeprefix("key/"))
    if text.startswith(ALIAS) or _ID.fullmatch(text):
        return KeyName(None, text)
    return None


def key_document(key: Key, material: str) -> dict[str, Any]:
    """Give the JSON form of a key with its sealed material."""
    return {**asdict(key), "material": material}


def read_key(document: Mapping[str, Any]) -> tuple[Key, str]:
    """Read the JSON form; raises KeyError, TypeError, ValueError."""
    values = dict(document)
    material: str = values.pop("material")
    home = Home(**values.pop("home"))
    state = KeyState(values.pop("state"))
    return Key(**values, home=home, state=state), material


def read_alias(document: Mapping[str, Any]) -> Alias:
    """Read the JSON form of an alias."""
    return Alias(**{**document, "home": Home(**document["home"])})


def renewed(alias: Alias, key_id: str, now: float) -> Alias:
    """Point an alias at another key."""
    return replace(alias, key_id=key_id, updated_at=now)
