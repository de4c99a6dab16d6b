"""Identity is passed in. Nobody else imports ``uuid``."""

import secrets
import uuid
from typing import Protocol


class Ids(Protocol):
    """Where a room gets new names from."""

    def request_id(self) -> str:
        """Give a UUID in lower case, as AWS puts it into ``x-amzn-RequestId``."""

    def instance_id(self) -> str:
        """Give a name for a new instance, in the shape of EC2's: ``i-`` and 17 hexadecimal digits."""


class SystemIds:
    """Names that are unique everywhere."""

    def request_id(self) -> str:
        """Give a UUID in lower case."""
        return str(uuid.uuid4())

    def instance_id(self) -> str:
        """Give a name for a new instance."""
        return "i-0" + secrets.token_hex(8)


class CountingIds:
    """Names that are the same in each run."""

    def __init__(self) -> None:
        self._count = 0

    def request_id(self) -> str:
        """Give the next UUID of the row."""
        self._count += 1
        return str(uuid.UUID(int=self._count))

    def instance_id(self) -> str:
        """Give the next instance name of the row."""
        self._count += 1
        return f"i-{self._count:017x}"
