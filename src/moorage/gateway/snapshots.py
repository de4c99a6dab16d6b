"""Where the snapshots come from: the link to the control plane, for ever; without one, at the start, the file.

The same link carries back what the gateway counts (``reports``).

Nothing that the control plane does or fails to do disturbs the invocations: a snapshot that cannot be read leaves
the present one in place.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import orjson

from moorage.base import link
from moorage.base.clock import Clock
from moorage.base.link import Link, Message
from moorage.base.tasks import Tasks
from moorage.gateway.reports import Reports
from moorage.routing.decide import Routing, make_routing
from moorage.routing.snapshot import Snapshot

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.2
"""Between two calls of a control plane that is not there."""

WAITING_MESSAGES = 10_000
"""Messages to a control plane that does not read; the oldest are dropped, it asks the node agent anyway."""

REPORT_SECONDS = 1.0
"""Between two messages about what was counted."""

WAITING_REPORTS = 100
"""With so many messages waiting nothing is reported: it is added up until the control plane reads again."""

REMEMBERED_DRAINED = 1_000
"""Ids that are told again after a break: the control plane may have missed them."""


_UNUSABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a snapshot of the wrong form raises."""


async def read_routing(path: Path) -> Routing | None:
    """Read the last snapshot from disk and prepare it; None when there is none that can be used."""

    def read() -> Routing:
        return make_routing(Snapshot.from_message(orjson.loads(path.read_bytes())))

    try:
        return await asyncio.to_thread(read)
    except FileNotFoundError:
        return None
    except (OSError, *_UNUSABLE) as fault:
        log.warning("the snapshot in %s cannot be used: %r", path, fault)
        return None


class SnapshotLink:
    """The link to the control plane."""

    def __init__(self, path: Path, clock: Clock, apply: Callable[[Routing], None], reports: Reports) -> None:
        self._path = path
        self._clock = clock
        self._apply = apply
        self._reports = reports
        self._reporting = asyncio.Lock()
        self._outgoing: deque[Message] = deque(maxlen=WAITING_MESSAGES)
        self._something_to_send = asyncio.Event()
        self._drained: deque[str] = deque(maxlen=REMEMBERED_DRAINED)
        self._all_sent = asyncio.Event()
        self._connected = False
        self._tried = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SnapshotLink: {'' if self._connected else 'not '}connected, {len(self._outgoing)} to send>"

    def drained(self, instance_id: str) -> None:
        """Say that the last answer of an instance that is no longer in the snapshot is complete."""
        self._drained.append(instance_id)
        self._send({"op": "drained", "instance_ids": [instance_id]})

    def unreachable(self, instance_id: str) -> None:
        """Say that an instance refused a connection or broke one."""
        self._send({"op": "unreachable", "instance_id": instance_id})

    async def report(self) -> None:
        """Tell once a second what was counted, until cancelled; without a link it is added up."""
        clock, before = self._clock, self._clock.monotonic()
        while True:
            await clock.sleep_until(before + REPORT_SECONDS)
            now = clock.monotonic()
            await self._report(now - before)
            before = now

    async def report_last(self, within_seconds: float) -> None:
        """Tell what is left before the process ends, if the control plane takes it in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._report(0.0)
                if self._connected:
                    await self._all_sent.wait()

    async def _report(self, seconds: float) -> None:
        async with self._reporting:
            for _ in self._reports.collect(self._clock.now(), seconds):
                await self._let_others_go_on()
            if not self._connected or len(self._outgoing) >= WAITING_REPORTS:
                return
            for message in self._reports.next_message():
                if message is None:
                    await self._let_others_go_on()
                else:
                    self._send(message)

    async def _let_others_go_on(self) -> None:
        await self._clock.sleep_until(self._clock.monotonic())

    async def first(self, seconds: float) -> None:
        """Wait until the first snapshot is applied, or it is clear that there is nobody who sends one.

        ``seconds`` is for a control plane that takes the call and does not speak.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._tried.wait()

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        while True:
            try:
                opened = await link.connect(self._path)
            except OSError:
                pass
            else:
                await self._serve(opened)
            self._tried.set()
            await self._clock.sleep_until(self._clock.monotonic() + AGAIN_SECONDS)

    async def _serve(self, opened: Link) -> None:
        self._outgoing.clear()
        self._connected = True
        sending = Tasks()
        sender = sending.start("gateway to control", self._send_all(opened))
        self._send({"op": "hello", "role": "gateway"})
        if self._drained:
            self._send({"op": "drained", "instance_ids": list(self._drained)})
        for message in self._reports.again():
            self._send(message)
        try:
            async for message in opened.messages():
                await self._take(message)
                if sender.done():
                    break
        except ValueError as fault:  # not JSON
            log.warning("the control plane has sent what is no message: %s", fault)
        finally:
            self._connected = False
            await sending.close()
            await opened.close()

    async def _take(self, message: Message) -> None:
        if message.get("op") == "metrics_stored":
            self._reports.stored(int(message["number"]))
        if message.get("op") != "snapshot":
            return
        try:
            routing = await asyncio.to_thread(_prepare, message)
        except _UNUSABLE as fault:
            log.warning("the control plane has sent a snapshot that cannot be used: %r", fault)
            return
        self._send({"op": "applied", "version": routing.version})
        self._apply(routing)
        self._tried.set()

    def _send(self, message: Message) -> None:
        if self._connected:
            self._outgoing.append(message)
            self._all_sent.clear()
            self._something_to_send.set()

    async def _send_all(self, opened: Link) -> None:
        while True:
            while self._outgoing:
                try:
                    await opened.send(self._outgoing.popleft())
                except link.LinkClosed:
                    return
            self._all_sent.set()
            self._something_to_send.clear()
            await self._something_to_send.wait()


def _prepare(message: Message) -> Routing:
    return make_routing(Snapshot.from_message(message["snapshot"]))
