"""Brings finished files of captured data into their buckets, one after the other, as often as it takes.

Files of one bucket wait in one lane. What cannot be delivered holds up those behind it in its lane and nobody else:
a bucket that does not exist, or is another account's, or a store that is down, is tried again after growing delays.
A file is put whole under its own key, so that one that is put a second time after a crash changes nothing.

A file is given up after a day of failures. One that its bucket refuses is given up earlier when the spool is full:
a wrong destination must not take the room of the right ones.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from moorage.base.clock import Clock
from moorage.gateway.capture.spool import BLOCK_BYTES, Finished, Spool, Target, read_finished
from moorage.kms.faults import KeyUnusable
from moorage.objects.faults import NoSuchBucket
from moorage.objects.store import FileSpan, ObjectStore

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
GIVE_UP_SECONDS = 86_400.0
"""Age of a file that is not tried again."""

ADOPT_SECONDS = 60.0
"""Between two looks for what dead gateways have left."""

LOOK_SECONDS = 1.0
"""Between two looks whether something is due, at most."""

log = logging.getLogger(__name__)


class Refused(Exception):
    """The bucket is not there, or not the endpoint's account's; its text is for people."""


def delay_after(failures: int) -> float:
    """Give the seconds between the last of so many failures in a row and the next attempt."""
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 32), LONGEST_DELAY_SECONDS)


def etag_of(path: Path) -> str:
    """Give the ETag of the object that a file becomes: its name, which no other file has, in the form of S3's.

    The MD5 of all that is captured would take as long as to write it. A number behind a dash tells clients that an ETag
    is none: so are those of what was uploaded in parts.
    """
    return f"{path.stem.replace('-', '')}-1"


@dataclass(eq=False, slots=True)
class DeliveryCounts:
    """Files, not records."""

    delivered: int = 0
    failures: int = 0
    """Attempts that failed because of the store."""
    refusals: int = 0
    """Attempts that failed because of the bucket."""
    given_up: int = 0
    records_given_up: int = 0
    """What was in them."""
    adopted: int = 0


@dataclass(eq=False, slots=True)
class _Lane:
    """The files of one bucket."""

    files: deque[Path] = field(default_factory=deque)
    failures: int = 0
    """In a row."""
    due: float = 0.0


class Delivery:
    """The way from the spool to the store. Lives in the event loop; what blocks is done in threads."""

    def __init__(self, spool: Spool, store: ObjectStore, clock: Clock) -> None:
        self.counts = DeliveryCounts()
        self._spool = spool
        self._store = store
        self._clock = clock
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._news = asyncio.Event()
        self._adopt_at = 0.0

    def __repr__(self) -> str:
        return f"<Delivery: {self.waiting} waiting for {len(self._lanes)} buckets, {self.counts}>"

    @property
    def waiting(self) -> int:
        """Count the files that are to be delivered."""
        return sum(len(lane.files) for lane in self._lanes.values())

    def add(self, path: Path, target: Target) -> None:
        """Deliver a file, some time."""
        self._lanes.setdefault((target.account, target.bucket), _Lane()).files.append(path)
        self._news.set()

    async def run(self) -> None:
        """Deliver, and look for what dead gateways have left, until cancelled."""
        while True:
            self._news.clear()
            now = self._clock.monotonic()
            if now >= self._adopt_at:
                self._adopt_at = now + ADOPT_SECONDS
                await self._adopt()
            due = [key for key, lane in self._lanes.items() if lane.due <= now]
            for key in due:
                await self._deliver_next(key)
            if not due:
                await self._wait_for_news()

    async def finish(self) -> None:
        """Try once more to deliver what waits."""
        for key in list(self._lanes):
            while key in self._lanes and await self._deliver_next(key):
                pass

    async def _wait_for_news(self) -> None:
        now = self._clock.monotonic()
        seconds = min((lane.due - now for lane in self._lanes.values()), default=LOOK_SECONDS)
        try:
            async with asyncio.timeout(min(seconds, LOOK_SECONDS)):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _adopt(self) -> None:
        try:
            found = await asyncio.to_thread(self._look_for_orphans)
        except OSError as fault:
            log.warning("what dead gateways have captured cannot be taken over: %s", fault)
            return
        for finished in found:
            self.add(finished.path, finished.target)
        self.counts.adopted += len(found)

    def _look_for_orphans(self) -> list[Finished]:
        found = []
        for path in self._spool.adopt():
            finished = read_finished(path)
            if finished is None:
                self._spool.remove(path)
            else:
                found.append(finished)
        self._spool.measure()
        return found

    async def _deliver_next(self, key: tuple[str, str]) -> bool:
        """Try to deliver the first file of a lane; says whether the lane has moved on."""
        lane = self._lanes[key]
        path = lane.files[0]
        finished: Finished | None = None
        try:
            finished = await self._look_at(path)
            if finished is not None:
                await self._put(finished)
        except Refused as fault:
            self.counts.refusals += 1
            self._failed(lane, key[1], fault)
            if not await self._gives_up(finished, refused=True):
                return False
        except Exception as fault:  # noqa: BLE001 - whatever a store raises: the file stays, and is tried again
            self.counts.failures += 1
            self._failed(lane, key[1], fault)
            if not await self._gives_up(finished, refused=False):
                return False
        else:
            self._succeeded(lane, key[1])
        lane.files.remove(path)
        if not lane.files:
            del self._lanes[key]
        await self._remove(path)
        return True

    async def _look_at(self, path: Path) -> Finished | None:
        try:
            return await asyncio.to_thread(read_finished, path)
        except FileNotFoundError:  # somebody has removed it
            return None

    async def _remove(self, path: Path) -> None:
        try:
            await asyncio.to_thread(self._spool.remove, path)
        except OSError as fault:
            log.warning("captured data that is delivered cannot be removed: %s", fault)

    async def _put(self, finished: Finished) -> None:
        target = finished.target
        try:
            owner = (await self._store.bucket(target.bucket)).account
        except NoSuchBucket:
            raise Refused("it does not exist") from None
        if owner != target.account:
            raise Refused(f"it does not belong to account {target.account}")
        file = await _open(finished.path)
        try:
            body = await self._body(finished, file)
            if body is not None:
                await self._store.put(
                    target.bucket, target.key, body, etag=etag_of(finished.path), encryption=target.encryption
                )
        finally:
            file.close()

    async def _body(self, finished: Finished, file: BinaryIO) -> AsyncIterator[bytes] | FileSpan | None:
        """Give the bytes of the object; None when there is no whole record in the file."""
        if finished.target.encryption is None:
            return FileSpan(file.fileno(), finished.start, finished.end)
        body = _read(self._spool.content(finished, file))
        first = await anext(body, None)
        return None if first is None else _joined(first, body)

    def _failed(self, lane: _Lane, bucket: str, fault: Exception) -> None:
        lane.failures += 1
        lane.files.rotate(-1)  # if it is this file alone that is bad, the next attempt is another one's
        lane.due = self._clock.monotonic() + delay_after(lane.failures)
        if lane.failures == 1:
            log.warning("captured data cannot be put into bucket %s: %s; it will be tried again", bucket, fault)

    def _succeeded(self, lane: _Lane, bucket: str) -> None:
        self.counts.delivered += 1
        if lane.failures:
            log.info("captured data is put into bucket %s again", bucket)
        lane.failures = 0

    async def _gives_up(self, finished: Finished | None, *, refused: bool) -> bool:
        if finished is None:
            return False
        old = self._clock.now() >= finished.written_at + GIVE_UP_SECONDS
        if not old and not (refused and not self._spool.has_room(BLOCK_BYTES)):
            return False
        self.counts.given_up += 1
        self.counts.records_given_up += await self._count_records(finished)
        log.warning("captured data for s3://%s/%s is given up", finished.target.bucket, finished.target.key)
        return True

    async def _count_records(self, finished: Finished) -> int:
        try:
            file = await _open(finished.path)
            try:
                return sum([piece.count(b"\n") async for piece in _read(self._spool.content(finished, file))])
            finally:
                file.close()
        except (OSError, KeyUnusable):  # it cannot be read any more, so nobody knows
            return 0


async def _open(path: Path) -> BinaryIO:
    opening = asyncio.get_running_loop().run_in_executor(None, path.open, "rb")
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:  # the thread goes on
        opening.add_done_callback(lambda opened: None if opened.exception() else opened.result().close())
        raise


async def _read(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Have pieces read in threads."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
