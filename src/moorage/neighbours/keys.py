"""The keys that requests may be signed with: those of the newest snapshot of the control plane."""

import asyncio
import logging
from pathlib import Path
from typing import Protocol

import orjson

from moorage.base import link
from moorage.base.clock import Clock
from moorage.base.settings import Settings
from moorage.iam.authenticate import Keys
from moorage.routing.snapshot import Snapshot

_PAUSE_SECONDS = 0.2

log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Where the keys that requests may be signed with come from."""

    @property
    def keys(self) -> Keys:
        """The newest ones."""


class AccessKeys:
    """The keys, kept up to date. Until the control plane answers they are those that it last wrote to the disk."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._socket = settings.run_dir / "snapshots.sock"
        self._file = settings.data_dir / "snapshot.json"
        self._clock = clock
        self._snapshot = Snapshot(version=0)

    @property
    def keys(self) -> Keys:
        """What requests are checked with."""
        return Keys(self._snapshot.keys, self._snapshot.token_secret)

    async def load(self) -> None:
        """Start from the snapshot on the disk, if there is one that can be read."""
        message = await asyncio.to_thread(_read, self._file)
        if message is not None:
            self._snapshot = message

    async def follow(self) -> None:
        """Take each new snapshot, for ever; a broken link is made anew."""
        while True:
            try:
                await self._follow_link()
            except OSError as fault:
                log.debug("no snapshots for now: %s", fault)
            await self._clock.sleep_until(self._clock.monotonic() + _PAUSE_SECONDS)

    async def _follow_link(self) -> None:
        control = await link.connect(self._socket)
        try:
            await control.send({"op": "hello", "role": "neighbour"})
            async for message in control.messages():
                if message["op"] == "snapshot":
                    self._snapshot = Snapshot.from_message(message["snapshot"])
                    await control.send({"op": "applied", "version": self._snapshot.version})
        finally:
            await control.close()


def _read(path: Path) -> Snapshot | None:
    try:
        return Snapshot.from_message(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        log.warning("%s cannot be read, waiting for the control plane: %s", path, fault)
        return None
