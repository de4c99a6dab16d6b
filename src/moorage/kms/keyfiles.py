"""Keys and aliases on the disk.

    KMS_FOLDER/
      master.key        the wrapping key, unless a setting says that it lies elsewhere
      keys/UUID.json    a key; its material is sealed with the wrapping key
      aliases.json      all aliases
      lock              held by who writes

Each file is replaced in one step, so that a reader needs no lock and a crash leaves the old content or the new. Who
writes holds the lock, so that of two who change something both changes stay.
"""

import base64
import binascii
import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from moorage.base.files import write_whole
from moorage.kms import cipher
from moorage.kms.faults import InvalidCiphertext, NoSuchKey, RingUnusable
from moorage.kms.records import Alias, Key, key_document, read_alias, read_key

_SUFFIX = ".json"


class KeyFiles:
    """The folder of a key ring."""

    def __init__(self, folder: Path, wrapping_key_file: Path | None) -> None:
        self._folder = folder
        self._keys = folder / "keys"
        self._aliases = folder / "aliases.json"
        self._wrapping_file = wrapping_key_file or folder / "master.key"
        self._wrapping_key: bytes | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, and remove what a writer has left that was killed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keys.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in (*self._folder.glob(".*"), *self._keys.glob(".*")):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def read(self, key_id: str) -> tuple[Key, str]:
        """Give a key and its sealed material; raises NoSuchKey."""
        try:
            return read_key(orjson.loads(self._path(key_id).read_bytes()))
        except FileNotFoundError:
            raise NoSuchKey(f"There is no key {key_id}.") from None

    def all(self) -> list[Key]:
        """Give all keys, oldest first."""
        found = []
        for path in self._keys.glob("*" + _SUFFIX):
            with contextlib.suppress(NoSuchKey):  # deleted meanwhile
                found.append(self.read(path.stem)[0])
        return sorted(found, key=lambda key: (key.created_at, key.key_id))

    def add(self, key: Key) -> None:
        """Keep a new key, with material that nobody has had; the lock must be held."""
        wrapping = self._wrapping(create=True)
        nonce = secrets.token_bytes(cipher.NONCE_BYTES)
        sealed = cipher.seal(wrapping, nonce, secrets.token_bytes(cipher.KEY_BYTES), key.arn.encode())
        self._write(key, base64.b64encode(nonce + sealed).decode())

    def change(self, key: Key) -> None:
        """Keep what has changed of a key; the lock must be held."""
        self._write(key, self.read(key.key_id)[1])

    def remove(self, key_id: str) -> None:
        """Destroy a key; the lock must be held."""
        self._path(key_id).unlink(missing_ok=True)

    def material(self, key: Key, sealed: str) -> bytes:
        """Unwrap a key's material; raises RingUnusable."""
        wrapping, packed = self._wrapping(create=False), base64.b64decode(sealed)
        nonce, rest = packed[: cipher.NONCE_BYTES], packed[cipher.NONCE_BYTES :]
        try:
            return cipher.unseal(wrapping, nonce, rest, key.arn.encode())
        except InvalidCiphertext as fault:
            raise RingUnusable(
                f"The wrapping key in {self._wrapping_file} is not the one that {key.arn} was made with."
            ) from fault

    def aliases(self) -> list[Alias]:
        """Give all aliases by name."""
        try:
            return [read_alias(entry) for entry in orjson.loads(self._aliases.read_bytes())]
        except FileNotFoundError:
            return []

    def write_aliases(self, aliases: Sequence[Alias]) -> None:
        """Keep these aliases and no others; the lock must be held."""
        ordered = sorted(aliases, key=lambda alias: (alias.name, alias.arn))
        write_whole(self._aliases, orjson.dumps([asdict(alias) for alias in ordered]))

    def _path(self, key_id: str) -> Path:
        return self._keys / f"{key_id}{_SUFFIX}"

    def _write(self, key: Key, material: str) -> None:
        write_whole(self._path(key.key_id), orjson.dumps(key_document(key, material)))

    def _wrapping(self, *, create: bool) -> bytes:
        if self._wrapping_key is None:
            self._wrapping_key = self._read_wrapping() or self._make_wrapping(create=create)
        return self._wrapping_key

    def _read_wrapping(self) -> bytes | None:
        try:
            text = self._wrapping_file.read_text("ascii").strip()
            found = base64.b64decode(text, validate=True)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, binascii.Error) as fault:
            raise RingUnusable(f"The wrapping key in {self._wrapping_file} cannot be read: {fault}") from fault
        if len(found) != cipher.KEY_BYTES:
            raise RingUnusable(
                f"The wrapping key in {self._wrapping_file} must be {cipher.KEY_BYTES} bytes in base64: make one with "
                f"openssl rand -base64 {cipher.KEY_BYTES}"
            )
        return found

    def _make_wrapping(self, *, create: bool) -> bytes:
        # A second wrapping key would look like a working ring whose old keys are all lost.
        if not create or any(self._keys.glob("*" + _SUFFIX)):
            raise RingUnusable(
                f"The wrapping key {self._wrapping_file} is missing. Without it none of the keys can be used: put it "
                "back, or name the file where it lies with MOORAGE_KMS_KEY_FILE."
            )
        made = secrets.token_bytes(cipher.KEY_BYTES)
        try:
            write_whole(self._wrapping_file, base64.b64encode(made) + b"\n")
        except OSError as fault:
            raise RingUnusable(f"The wrapping key {self._wrapping_file} cannot be written: {fault}") from fault
        return made
