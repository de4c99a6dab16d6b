"""A gateway that routes nothing: it applies snapshots, and says so."""

import asyncio
import contextlib

from moorage.base.clock import Clock
from moorage.base.link import Link, LinkClosed
from moorage.routing.snapshot import Snapshot


def instances_of(snapshot: Snapshot) -> frozenset[str]:
    """Give the instances that a snapshot routes to."""
    return frozenset(
        instance.instance_id for endpoint in snapshot.endpoints.values() for instance in endpoint.instances
    )


class FakeGateway:
    """A gateway that takes some time to apply a snapshot and to drain an instance."""

    def __init__(self, clock: Clock, *, apply_seconds: float = 0.0, drain_seconds: float = 0.0) -> None:
        self._clock = clock
        self._apply_seconds = apply_seconds
        self._drain_seconds = drain_seconds
        self.snapshot = Snapshot(version=0)
        """What it routes by."""
        self.history: list[Snapshot] = []
        self.draining: frozenset[str] = frozenset()
        """Instances that have left the snapshot and still answer."""

    @property
    def uses(self) -> frozenset[str]:
        """The instances that it sends to or awaits an answer from."""
        return instances_of(self.snapshot) | self.draining

    async def call(self, link: Link) -> None:
        """Say hello, and follow until the link breaks."""
        async with asyncio.TaskGroup() as drains:
            with contextlib.suppress(LinkClosed):
                await link.send({"op": "hello", "role": "gateway"})
                async for message in link.messages():
                    await self._pass(self._apply_seconds)
                    before, self.snapshot = self.snapshot, Snapshot.from_message(message["snapshot"])
                    self.history.append(self.snapshot)
                    await link.send({"op": "applied", "version": self.snapshot.version})
                    if left := instances_of(before) - instances_of(self.snapshot):
                        self.draining |= left
                        drains.create_task(self._drain(left, link))

    async def _drain(self, left: frozenset[str], link: Link) -> None:
        await self._pass(self._drain_seconds)
        self.draining -= left
        with contextlib.suppress(LinkClosed):
            await link.send({"op": "drained", "instance_ids": sorted(left)})

    async def _pass(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic() + seconds)
