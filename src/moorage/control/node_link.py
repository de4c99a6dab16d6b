"""The link to the node agent: what it reports, and what it is told.

Nothing is remembered across a break: the node agent starts each link with everything it knows, and the reconciler,
woken by that, says again what is still to be done. While the node agent is away, what it last said is believed for
a moment: the supervisor restarts it at once, and then it says itself that its instances have ended with it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from moorage.base.clock import Clock
from moorage.base.link import Link, LinkClosed, Message
from moorage.control.planning.placement import Resources
from moorage.engine.contract import InstanceReport, InstanceSpec
from moorage.state.records import EndpointKey

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.05
_BELIEVED_SECONDS = 5.0
_SEND_SECONDS = 5.0

Connect = Callable[[], Awaitable[Link]]
Wake = Callable[[Iterable[EndpointKey]], None]


class NodeLink:
    """What is known of the instances of this machine."""

    def __init__(self, connect: Connect, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._link: Link | None = None
        self._reports: dict[EndpointKey, dict[str, InstanceReport]] = {}
        self._known = False
        self._runs_images = True
        self._machine: Resources | None = None
        self._gpu_driver = ""
        self._refuses: Mapping[str, str] = {}
        self._told: set[tuple[str, str]] = set()
        self._wake: Wake = lambda _keys: None

    def __repr__(self) -> str:
        state = "linked" if self._link else "not linked"
        count = sum(map(len, self._reports.values()))
        return f"<NodeLink: {state}, {'known' if self._known else 'unknown'}, {count} instances>"

    def tell(self, wake: Wake) -> None:
        """Say who wants to hear of endpoints whose instances have changed; a complete report wakes all endpoints."""
        self._wake = wake

    @property
    def known(self) -> bool:
        """Whether the node agent has said, completely, what runs; before that nothing is decided."""
        return self._known

    @property
    def runs_images(self) -> bool:
        """Whether images that are not built in can be run; believed until the node agent says otherwise."""
        return self._runs_images

    @property
    def machine(self) -> Resources | None:
        """What the machine has; None as long as the node agent has not said."""
        return self._machine

    @property
    def gpu_driver(self) -> str:
        """Version of the driver of the machine's GPUs; empty: there is none, or nothing was said."""
        return self._gpu_driver

    @property
    def refuses(self) -> Mapping[str, str]:
        """What no engine of the machine keeps: by member of the API, why; empty as long as nothing was said."""
        return self._refuses

    def reports_of(self, key: EndpointKey) -> Mapping[str, InstanceReport]:
        """Give what was last reported of an endpoint's instances."""
        return dict(self._reports.get(key, {}))

    def all_reports(self) -> list[InstanceReport]:
        """Give what was last reported of all instances."""
        return [report for reports in self._reports.values() for report in reports.values()]

    async def run(self, wake_all: Callable[[], None]) -> None:
        """Keep the link, for ever."""
        while True:
            link = await self._reconnect(wake_all)
            self._link, self._told = link, set()
            try:
                async for message in link.messages():
                    self._hear(message, wake_all)
            finally:
                self._link = None
                await link.close()
            log.warning("the node agent has gone")

    async def _reconnect(self, wake_all: Callable[[], None]) -> Link:
        believed_until = self._clock.monotonic() + _BELIEVED_SECONDS
        while True:
            try:
                return await self._connect()
            except OSError:
                pass
            now = self._clock.monotonic()
            if self._reports and now >= believed_until:
                log.warning("the node agent does not come back: its instances have ended with it")
                self._reports = {}
                wake_all()
            await self._clock.sleep_until(now + _RETRY_SECONDS)

    def _hear(self, message: Message, wake_all: Callable[[], None]) -> None:
        reports = [InstanceReport.from_message(entry) for entry in message["instances"]]
        if message["complete"]:
            self._reports = {}
            self._runs_images = bool(message.get("runs_images"))
            self._machine, self._gpu_driver = _machine_of(message)
            self._refuses = message.get("refuses") or {}
        for report in reports:
            self._reports.setdefault(_key_of(report), {})[report.instance_id] = report
        if message["complete"]:
            self._known = True
            wake_all()
        else:
            self._wake({_key_of(report) for report in reports})

    async def launch(self, spec: InstanceSpec) -> None:
        """Ask for an instance; does nothing while the link is down."""
        await self._order({"op": "launch", "spec": spec.to_message()}, spec.instance_id)

    async def stop(self, instance_id: str) -> None:
        """Ask for an instance's end; does nothing while the link is down."""
        await self._order({"op": "stop", "instance_id": instance_id}, instance_id)

    async def forget(self, key: EndpointKey, instance_id: str) -> None:
        """Let go of the report of an instance that has ended."""
        await self._order({"op": "forget", "instance_id": instance_id}, instance_id)
        self._told = {told for told in self._told if told[1] != instance_id}
        if (reports := self._reports.get(key)) is not None:
            reports.pop(instance_id, None)
            if not reports:
                del self._reports[key]

    async def _order(self, message: dict[str, Any], instance_id: str) -> None:
        """Give an order once a link: passes that come before its effect is reported would only repeat it."""
        order = (message["op"], instance_id)
        if (link := self._link) is None or order in self._told:
            return
        self._told.add(order)
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await link.send(message)
        except (LinkClosed, TimeoutError):
            log.warning("the node agent did not take %s; it will be told again", message["op"])
            await link.close()


def _machine_of(message: Message) -> tuple[Resources | None, str]:
    """Read what a complete report says of the machine: what it has, and the version of its GPUs' driver."""
    machine = message.get("machine")
    if not machine:
        return None, ""
    has = Resources(machine["vcpus"], machine["memory_mib"], gpus=machine["gpus"])
    return has, machine.get("gpu_driver", "")


def _key_of(report: InstanceReport) -> EndpointKey:
    return EndpointKey(report.account, report.region, report.endpoint)
