"""The access keys that requests are checked against, in memory for the pipeline, in the snapshot for gateways."""

import secrets
import string
from collections.abc import Sequence

from moorage.aws.credentials import Credential
from moorage.base.clock import Clock
from moorage.control.publish import Publisher
from moorage.iam.authenticate import Keys
from moorage.state import keys
from moorage.state.records import KeyRecord
from moorage.state.store import Store

_ID_LETTERS = string.ascii_uppercase + "234567"
_SECRET_LETTERS = string.ascii_letters + string.digits + "+/"
_TOKEN_SECRET_BYTES = 32


def new_key(account: str, user_name: str, now: float, policies: tuple[str, ...] | None = None) -> KeyRecord:
    """Make a key in the shape of AWS's: ``AKIA`` and 16 letters, with a secret of 40."""
    return KeyRecord(
        access_key_id="AKIA" + "".join(secrets.choice(_ID_LETTERS) for _ in range(16)),
        secret_access_key="".join(secrets.choice(_SECRET_LETTERS) for _ in range(40)),
        account=account,
        user_name=user_name,
        created_at=round(now, 3),
        policies=policies,
    )


class Keyring:
    """All keys of this installation."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, first: KeyRecord | None) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._first = first
        self._token_secret = ""
        self._records: Sequence[KeyRecord] = ()
        self.keys = Keys({})
        """What requests are checked with."""

    async def load(self) -> None:
        """Read the keys of the store, adding the first one where it is missing, and publish them."""
        records = await self._store.read(keys.read_all)
        first = self._first
        if first is not None and all(record.access_key_id != first.access_key_id for record in records):
            await self._store.transact(lambda connection: keys.add(connection, first))
        proposed = secrets.token_hex(_TOKEN_SECRET_BYTES)
        self._token_secret = await self._store.transact(lambda connection: keys.token_secret(connection, proposed))
        await self._refresh()

    async def _refresh(self) -> None:
        self._records = await self._store.read(keys.read_all)
        credentials = {
            record.access_key_id: Credential(
                record.access_key_id, record.secret_access_key, record.account, record.user_name, record.policies
            )
            for record in self._records
        }
        self.keys = Keys(credentials, self._token_secret)
        await self._publisher.publish_keys(credentials, self._token_secret)

    def all(self) -> list[KeyRecord]:
        """Give the keys of all accounts, oldest first."""
        return list(self._records)

    def find(self, access_key_id: str) -> KeyRecord | None:
        """Give a key."""
        return next((record for record in self._records if record.access_key_id == access_key_id), None)

    def is_first(self, access_key_id: str) -> bool:
        """Say whether a key is the one that Moorage's own commands use."""
        return self._first is not None and self._first.access_key_id == access_key_id

    async def create(self, account: str, user_name: str, policies: tuple[str, ...] | None) -> KeyRecord:
        """Issue a key."""
        record = new_key(account, user_name, self._clock.now(), policies)
        await self._store.transact(lambda connection: keys.add(connection, record))
        await self._refresh()
        return record

    async def set_policies(self, access_key_id: str, policies: tuple[str, ...] | None) -> None:
        """Give a key other policies; they are in force when this returns, at the gateways a moment later."""
        await self._store.transact(lambda connection: keys.set_policies(connection, access_key_id, policies))
        await self._refresh()

    async def delete(self, access_key_id: str) -> None:
        """Take a key back, and with it the sessions that were begun with it."""
        await self._store.transact(lambda connection: keys.remove(connection, access_key_id))
        await self._refresh()
