"""The key ring of an installation.

A ciphertext names its key, so that who opens it need not. Its form: a version byte, the key's id (16 bytes), a salt
(16), a nonce (12), and what AES-256-GCM makes of the content with a key that is derived of the key's material and the
salt. All before the ciphertext, and the encryption context, are authenticated with it.

Everything here blocks for about as long as it takes to read a small file, and may be used from several processes and
threads at once: the state of a key is read anew each time it is used.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Settings
from moorage.kms import cipher
from moorage.kms.faults import (
    AliasExists,
    InvalidCiphertext,
    KeyDisabled,
    KeyManagedByService,
    KeyNotPendingDeletion,
    KeyPendingDeletion,
    NoSuchAlias,
    NoSuchKey,
    TooMany,
)
from moorage.kms.keyfiles import KeyFiles
from moorage.kms.records import ALIAS, SERVICE_ALIAS, SERVICES, Alias, Home, Key, KeyState, read_name, renewed

MOST_ALIASES_OF_A_KEY = 50
DAY_SECONDS = 86_400.0

_VERSION = b"\x01"
_HEAD_BYTES = len(_VERSION) + 16 + cipher.SALT_BYTES + cipher.NONCE_BYTES
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key to encrypt data with, and the same sealed, to be kept beside the data."""

    plaintext: bytes = field(repr=False)
    """32 bytes."""
    sealed: bytes
    key: Key
    """What it is sealed with."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a ciphertext."""

    plaintext: bytes = field(repr=False)
    key: Key


class KeyRing:
    """Keys, aliases, and what is done with them. All refusals are KeyUnusable, most of a more precise kind."""

    def __init__(self, folder: Path, clock: Clock, ids: Ids, wrapping_key_file: Path | None = None) -> None:
        self._files = KeyFiles(folder, wrapping_key_file)
        self._clock = clock
        self._ids = ids

    # What keys are used for

    def data_key(self, key: str, context: Mapping[str, str] = _NOTHING, home: Home | None = None) -> DataKey:
        """Make a data key of 32 bytes; ``key`` is an id, alias or ARN (see ``find``)."""
        plaintext = secrets.token_bytes(cipher.KEY_BYTES)
        found = self.usable(key, home)
        return DataKey(plaintext, self._seal(found, plaintext, context), found)

    def seal(
        self, key: str, plaintext: bytes, context: Mapping[str, str] = _NOTHING, home: Home | None = None
    ) -> bytes:
        """Encrypt something small; see ``data_key``."""
        return self._seal(self.usable(key, home), plaintext, context)

    def open(self, sealed: bytes, context: Mapping[str, str] = _NOTHING) -> bytes:
        """Decrypt what ``seal`` made, or the sealed form of a data key. Raises KeyUnusable."""
        return self.unseal(sealed, context).plaintext

    def unseal(self, sealed: bytes, context: Mapping[str, str] = _NOTHING) -> Opened:
        """Decrypt, and tell by which key; raises InvalidCiphertext, NoSuchKey, KeyDisabled, KeyPendingDeletion."""
        key = self.key_of(sealed)
        _check_usable(key)
        at = len(_VERSION) + 16
        salt, nonce = sealed[at : at + cipher.SALT_BYTES], sealed[at + cipher.SALT_BYTES : _HEAD_BYTES]
        message_key = cipher.derive(self._material(key), salt)
        bound = sealed[:_HEAD_BYTES] + cipher.context_bytes(context)
        return Opened(cipher.unseal(message_key, nonce, sealed[_HEAD_BYTES:], bound), key)

    def key_of(self, sealed: bytes) -> Key:
        """Give the key that a ciphertext names; raises InvalidCiphertext, NoSuchKey."""
        if not sealed.startswith(_VERSION) or len(sealed) < _HEAD_BYTES + cipher.TAG_BYTES:
            raise InvalidCiphertext("This is no ciphertext of this key ring.")
        return self._read(_id_of(sealed[len(_VERSION) : len(_VERSION) + 16]))

    def _seal(self, key: Key, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        salt, nonce = secrets.token_bytes(cipher.SALT_BYTES), secrets.token_bytes(cipher.NONCE_BYTES)
        head = _VERSION + bytes.fromhex(key.key_id.replace("-", "")) + salt + nonce
        message_key = cipher.derive(self._material(key), salt)
        return head + cipher.seal(message_key, nonce, plaintext, head + cipher.context_bytes(context))

    def _material(self, key: Key) -> bytes:
        found, sealed = self._files.read(key.key_id)
        return self._files.material(found, sealed)

    # Keys

    def create_key(self, home: Home, *, description: str = "", tags: Mapping[str, str] | None = None) -> Key:
        """Make a key."""
        with self._files.writing():
            return self._add(Key(self._ids.request_id(), home, self._now(), description, tags=tags or {}))

    def _add(self, key: Key) -> Key:
        self._files.add(key)
        return key

    def find(self, key: str, home: Home | None = None) -> Key:
        """Give the key that has an id, alias or ARN; raises NoSuchKey.

        Aliases are names within an account and region: one that is not an ARN needs ``home``. The key of
        ``alias/aws/s3`` and ``alias/aws/sagemaker`` is made when it is first asked for.
        """
        name = read_name(key)
        if name is None:
            raise NoSuchKey(f"{key!r} is neither the id of a key, nor an alias (alias/NAME), nor the ARN of one.")
        if not name.rest.startswith(ALIAS):
            found = self._read(name.rest)
            if name.home is not None and name.home != found.home:
                raise NoSuchKey(f"There is no key {key}.")
            return found
        where = name.home or home
        if where is None:
            raise NoSuchKey(f"{key!r} is an alias: say of which account and region, by its ARN.")
        service = name.rest.removeprefix(SERVICE_ALIAS)
        if name.rest.startswith(SERVICE_ALIAS) and service in SERVICES:
            return self._of_service(service, where)
        return self._read(self.alias(name.rest, where).key_id)

    def usable(self, key: str, home: Home | None = None) -> Key:
        """Give a key that may be used; raises NoSuchKey, KeyDisabled, KeyPendingDeletion."""
        found = self.find(key, home)
        _check_usable(found)
        return found

    def keys(self, home: Home) -> Sequence[Key]:
        """List the keys of an account and region, oldest first."""
        now = self._clock.now()
        return [key for key in self._files.all() if key.home == home and not key.gone(now)]

    def set_description(self, key: Key, description: str) -> None:
        """Describe a key otherwise; raises KeyManagedByService, KeyPendingDeletion."""
        self._change(key, lambda now: replace(_changeable(now), description=description))

    def change_tags(self, key: Key, add: Mapping[str, str] = _NOTHING, remove: Collection[str] = ()) -> None:
        """Add tags and take others away; raises KeyManagedByService, KeyPendingDeletion."""

        def changed(now: Key) -> Key:
            tags = {**_changeable(now).tags, **add}
            return replace(now, tags={name: value for name, value in tags.items() if name not in remove})

        self._change(key, changed)

    def enable(self, key: Key) -> None:
        """Let a key be used again; raises KeyManagedByService, KeyPendingDeletion."""
        self._change(key, lambda now: replace(_changeable(now), state=KeyState.ENABLED))

    def disable(self, key: Key) -> None:
        """Let a key not be used; raises KeyManagedByService, KeyPendingDeletion."""
        self._change(key, lambda now: replace(_changeable(now), state=KeyState.DISABLED))

    def schedule_deletion(self, key: Key, seconds: float) -> Key:
        """Have a key destroyed after a time: until then it cannot be used, and this can be cancelled."""
        deletion_at = self._now() + seconds
        return self._change(
            key, lambda now: replace(_changeable(now), state=KeyState.PENDING_DELETION, deletion_at=deletion_at)
        )

    def cancel_deletion(self, key: Key) -> Key:
        """Keep a key after all, disabled; raises KeyNotPendingDeletion."""

        def kept(now: Key) -> Key:
            if now.state is not KeyState.PENDING_DELETION:
                raise KeyNotPendingDeletion(f"{now.arn} is not pending deletion.")
            return replace(now, state=KeyState.DISABLED, deletion_at=None)

        return self._change(key, kept)

    def _change(self, key: Key, change: Callable[[Key], Key]) -> Key:
        with self._files.writing():
            there, _ = self._files.read(key.key_id)
            if there.gone(self._clock.now()):
                raise _deleted(key.key_id)
            made = change(there)
            self._files.change(made)
        return made

    def _read(self, key_id: str) -> Key:
        key, _ = self._files.read(key_id)
        if key.gone(self._clock.now()):
            self._destroy(key_id)
            raise _deleted(key_id)
        return key

    def _destroy(self, key_id: str) -> None:
        """Destroy a key whose time has come; NoSuchKey when somebody was faster."""
        with self._files.writing():
            if self._files.read(key_id)[0].gone(self._clock.now()):
                self._files.write_aliases([alias for alias in self._files.aliases() if alias.key_id != key_id])
                self._files.remove(key_id)

    def _of_service(self, service: str, home: Home) -> Key:
        name = SERVICE_ALIAS + service
        if (there := self._find_alias(name, home)) is not None:
            return self._read(there.key_id)
        with self._files.writing():
            if (there := self._find_alias(name, home)) is not None:  # somebody was faster
                return self._read(there.key_id)
            now = self._now()
            description = f"Default key that protects the data of {service} when no other key is named"
            made = self._add(Key(self._ids.request_id(), home, now, description, service=service))
            self._files.write_aliases([*self._files.aliases(), Alias(name, home, made.key_id, now, now)])
        return made

    # Aliases

    def aliases(self, home: Home) -> Sequence[Alias]:
        """List the aliases of an account and region by name."""
        return [alias for alias in self._files.aliases() if alias.home == home]

    def alias(self, name: str, home: Home) -> Alias:
        """Give an alias; raises NoSuchAlias."""
        if (found := self._find_alias(name, home)) is None:
            raise NoSuchAlias(f"Alias {home.arn(name)} is not found.")
        return found

    def create_alias(self, name: str, key: Key) -> Alias:
        """Give a key a second name; raises AliasExists, TooMany, KeyPendingDeletion."""
        _check_not_pending(key)
        with self._files.writing():
            there, now = self._files.aliases(), self._now()
            made = Alias(name, key.home, key.key_id, now, now)
            if any(alias.arn == made.arn for alias in there):
                raise AliasExists(f"An alias with the name {made.arn} already exists")
            _check_room(there, key)
            self._files.write_aliases([*there, made])
        return made

    def update_alias(self, name: str, key: Key) -> Alias:
        """Let an alias name another key; raises NoSuchAlias, TooMany, KeyPendingDeletion."""
        _check_not_pending(key)
        with self._files.writing():
            there = self._files.aliases()
            made = renewed(self.alias(name, key.home), key.key_id, self._now())
            others = [alias for alias in there if alias.arn != made.arn]
            _check_room(others, key)
            self._files.write_aliases([*others, made])
        return made

    def delete_alias(self, name: str, home: Home) -> None:
        """Take a second name away; raises NoSuchAlias."""
        with self._files.writing():
            gone = self.alias(name, home)
            self._files.write_aliases([alias for alias in self._files.aliases() if alias.arn != gone.arn])

    def _find_alias(self, name: str, home: Home) -> Alias | None:
        return next((alias for alias in self._files.aliases() if alias.home == home and alias.name == name), None)

    def _now(self) -> float:
        return round(self._clock.now(), 3)


def open_ring(settings: Settings, clock: Clock, ids: Ids) -> KeyRing:
    """Give the key ring of an installation; nothing is made or read before it is used."""
    return KeyRing(settings.data_dir / "kms", clock, ids, settings.kms_key_file)


def _deleted(key_id: str) -> NoSuchKey:
    return NoSuchKey(f"There is no key {key_id}: it was deleted.")


def _id_of(packed: bytes) -> str:
    digits = packed.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _check_usable(key: Key) -> None:
    _check_not_pending(key)
    if key.state is KeyState.DISABLED:
        raise KeyDisabled(f"{key.arn} is disabled.")


def _check_not_pending(key: Key) -> None:
    if key.state is KeyState.PENDING_DELETION:
        raise KeyPendingDeletion(f"{key.arn} is pending deletion.")


def _changeable(key: Key) -> Key:
    if key.service is not None:
        raise KeyManagedByService(f"{key.arn} was made for {key.service}: it cannot be changed.")
    _check_not_pending(key)
    return key


def _check_room(aliases: Sequence[Alias], key: Key) -> None:
    if sum(alias.key_id == key.key_id for alias in aliases) >= MOST_ALIASES_OF_A_KEY:
        raise TooMany(f"{key.arn} has {MOST_ALIASES_OF_A_KEY} aliases already: no key has more.")
