"""What a gateway counts on its way over the real link, with the real control plane's side of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.support.gateway import RacingClock, endpoint, snapshot, until, variant, world

from moorage.base import link
from moorage.base.tasks import Tasks
from moorage.control.ledger import Ledger
from moorage.control.publish import Publisher
from moorage.gateway.reports import Reports
from moorage.gateway.snapshots import SnapshotLink
from moorage.state import metrics
from moorage.state.metrics import Series
from moorage.state.store import FileStore
from moorage.telemetry.meters import Meters

KEY = ("123456789012", "us-east-1", "ep", "a")
SPEED = 50.0
"""A second of the gateway's reports takes 20 ms."""


async def nowhere(_content: bytes) -> None:
    """Snapshots are read by nobody here."""


class Control:
    """The control plane's side: publisher, ledger and store, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = RacingClock(SPEED)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Ledger]:
        tasks, store = Tasks(), FileStore(self.folder / "state.db")
        publisher = Publisher(snapshot(1), nowhere, tasks)
        ledger = Ledger(store, self.clock, 86_400.0, lambda: ())
        await ledger.load()
        publisher.report_to(ledger)
        server = await link.listen(self.folder / "s", publisher.serve)
        tasks.start("metrics", ledger.run())
        try:
            yield ledger
        finally:
            server.close()
            await tasks.close()
            for gateway in list(ledger._gateways.values()):
                await gateway.link.close()
            store.close()

    async def stored(self) -> float:
        series = Series(*KEY[:2], "AWS/SageMaker", "Invocations", (("EndpointName", "ep"), ("VariantName", "a")))

        def read(connection: Connection) -> float:
            return sum(period.values.sum for period in metrics.read(connection, series, start=0, end=2**33))

        store = FileStore(self.folder / "state.db")
        found = await store.read(read)
        store.close()
        return found


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


async def test_invocations_come_into_the_store_across_a_restart_of_the_control_plane(
    tmp_path: Path, tasks: Tasks
) -> None:
    control, meters = Control(tmp_path), Meters()
    meters.serve([KEY])
    reports = Reports(meters, gateway="g", name="1")
    gateway = SnapshotLink(tmp_path / "s", RacingClock(SPEED), lambda _routing: None, reports)
    tasks.start("link", gateway.run())
    tasks.start("reports", gateway.report())

    def invoke(count: int) -> None:
        for _ in range(count):
            meters.of(*KEY).begin()
            meters.of(*KEY).end(200, 0.001, 0.002, 1)

    invoke(3)
    async with control.running() as ledger:
        await until(lambda: ledger.totals.get(KEY) and ledger.totals[KEY].invocations == 3)
        await until(lambda: repr(reports) == "<Reports: 0 periods to tell, 0 messages unanswered>")
        invoke(4)
        await until(lambda: ledger.totals[KEY].invocations == 7)
    assert await control.stored() in {3.0, 7.0}  # whether or not it was written before the end
    invoke(5)
    async with control.running() as ledger:
        await until(lambda: repr(reports) == "<Reports: 0 periods to tell, 0 messages unanswered>")
    assert await control.stored() == 12


async def test_gateway_reports_every_second_what_it_has_and_last_of_all_at_its_end() -> None:
    async with world(speed=SPEED) as made:
        server = await made.instance("a")
        await made.start(endpoint("ep", variant("a", server)))
        await until(lambda: len(made.control.said("metrics")) >= 2)
        async with made.connected():
            await until(lambda: made.control.said("metrics")[-1]["values"]["moorage_gateway_connections"] == 1)
        before = len(made.control.said("metrics"))
        await made.stop_gateway()
        await until(lambda: len(made.control.said("metrics")) > before)
        last = made.control.said("metrics")[-1]
        assert (last["op"], last["periods"], last["in_flight"]) == ("metrics", [], [])


async def test_gateway_that_writes_an_access_log_tells_what_it_has_lost() -> None:
    async with world(speed=SPEED) as made:
        made.settings = replace(made.settings, access_log=made.folder / "access.jsonl")
        await made.start()
        await until(lambda: made.control.said("metrics"))
        assert made.control.said("metrics")[-1]["values"]["moorage_access_log_dropped_total"] == 0


async def test_last_report_waits_for_no_control_plane_that_does_not_read(tmp_path: Path, tasks: Tasks) -> None:
    held = asyncio.Event()

    async def deaf(opened: link.Link) -> None:
        await held.wait()

    server = await link.listen(tmp_path / "s", deaf)
    meters = Meters()
    gateway = SnapshotLink(
        tmp_path / "s", RacingClock(1.0), lambda _routing: None, Reports(meters, gateway="g", name="1")
    )
    tasks.start("link", gateway.run())
    await until(lambda: gateway._connected)
    for number in range(40_000):  # more than the socket takes
        gateway.unreachable(f"i-{number:060}")
    async with asyncio.timeout(5):
        await gateway.report_last(0.05)
    held.set()
    server.close()
