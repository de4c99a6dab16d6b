"""From the gateways' counting to the store: each invocation once, whatever breaks on the way."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from moorage.base.distribution import Distribution
from moorage.base.link import Message
from moorage.control.ledger import FORGET_SECONDS, Ledger
from moorage.gateway.reports import AT_A_TIME, MOST_PERIODS, MOST_UNANSWERED, Reports
from moorage.state import metrics
from moorage.state.metrics import Series
from moorage.state.store import InlineStore
from moorage.telemetry.delta import Key
from moorage.telemetry.meters import Meters

KEY = ("000000000000", "us-east-1", "ep", "a")
MINUTE = 1_767_225_600


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = float(MINUTE)

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep_until(self, deadline: float) -> None:
        raise AssertionError("nobody sleeps here")


class Wire:
    """A link that remembers what it is told."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message)


class BrokenStore(InlineStore):
    """A store whose disk can be full."""

    full = False

    async def transact(self, work: Any) -> Any:
        if self.full:
            raise OSError("no space left")
        return await super().transact(work)


class World:
    """A ledger on a real store, and the clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.store = BrokenStore(folder / "state.db")
        self.routed: set[Key] = set()
        self.loaded: list[tuple[Key, int]] = []
        self.ledger = self.make()

    def make(self) -> Ledger:
        return Ledger(self.store, self.clock, 86_400.0, lambda: self.routed, lambda: self.loaded)

    async def restart(self) -> None:
        self.ledger = self.make()
        await self.ledger.load()

    async def stored(
        self, metric: str = "Invocations", *more: tuple[str, str], namespace: str = "AWS/SageMaker"
    ) -> dict[int, Distribution]:
        dimensions = (*more, ("EndpointName", "ep"), ("VariantName", "a"))
        series = Series(*KEY[:2], namespace, metric, dimensions)

        def read(connection: Connection) -> dict[int, Distribution]:
            periods = metrics.read(connection, series, start=0, end=2**33)
            return {period.start - MINUTE: period.values for period in periods}

        return await self.store.read(read)

    async def invocations(self) -> dict[int, float]:
        return {start: values.sum for start, values in (await self.stored()).items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


class Gateway:
    """The counting part of a gateway."""

    def __init__(self, world: World, name: str = "1") -> None:
        self.world = world
        self.meters = Meters()
        self.meters.serve([KEY])
        self.reports = Reports(self.meters, gateway=f"id-{name}", name=name)
        self.wire: Any = Wire()

    def invoke(self, count: int = 1, *, status: int = 200, seconds: float = 0.001) -> None:
        meter = self.meters.of(*KEY)
        for _ in range(count):
            meter.begin()
            meter.end(status, seconds, seconds * 2, 1)

    def collect(self, seconds: float = 1.0) -> None:
        list(self.reports.collect(self.world.clock.now(), seconds))

    def tell(self, seconds: float = 1.0) -> None:
        """Pass a second, and tell of it."""
        self.collect(seconds)
        *_, message = self.reports.next_message()
        assert message is not None
        self.world.ledger.hear(self.wire, message)

    def hear(self) -> None:
        """Take the answers."""
        for message in self.wire.sent:
            self.reports.stored(message["number"])
        self.wire.sent.clear()

    def call_again(self) -> None:
        """Make a new link and say what has not been answered."""
        self.world.ledger.left(self.wire)
        self.wire = Wire()
        for message in self.reports.again():
            self.world.ledger.hear(self.wire, message)


async def test_gateways_are_added_up_by_the_minute(world: World) -> None:
    one, two = Gateway(world, "1"), Gateway(world, "2")
    one.invoke(3)
    two.invoke(4, status=500)
    one.tell()
    two.tell()
    world.clock.time += 60
    two.invoke()
    two.tell()
    await world.ledger.write()
    assert await world.invocations() == {0: 7, 60: 1}
    errors = (await world.stored("Invocation5XXErrors"))[0]
    assert (errors.count, errors.sum) == (7, 4)


async def test_latencies_of_several_containers_are_series_of_their_own(world: World) -> None:
    gateway = Gateway(world)
    meter = gateway.meters.of(*KEY)
    for direct in (False, True):
        meter.begin()
        meter.containers([("x", 5), ("y", 7)] if not direct else [("y", 9)], direct=direct)
        meter.end(200, 0.001, 0.002, 1)
    gateway.tell()
    await world.ledger.write()
    assert (await world.stored("ContainerLatency", ("ContainerName", "x")))[0].sum == 5
    assert (await world.stored("ContainerLatency", ("ContainerName", "y")))[0].sum == 16
    assert (await world.stored("Invocations", ("ContainerName", "y")))[0].sum == 1
    assert await world.stored("Invocations", ("ContainerName", "x")) == {}
    assert await world.invocations() == {0: 2}


async def test_minute_goes_on_in_the_next_control_plane(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(2)
    gateway.tell()
    await world.ledger.write()
    gateway.hear()
    await world.restart()
    gateway.call_again()
    gateway.invoke(3)
    gateway.tell()
    await world.ledger.write()
    assert await world.invocations() == {0: 5}


async def test_control_plane_that_dies_before_it_wrote_loses_nothing(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(2)
    gateway.tell()
    await world.restart()
    gateway.call_again()
    await world.ledger.write()
    assert await world.invocations() == {0: 2}


async def test_control_plane_that_dies_after_it_wrote_counts_nothing_twice(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(2)
    gateway.tell()
    await world.ledger.write()
    await world.restart()
    gateway.call_again()
    await world.ledger.write()
    gateway.hear()
    assert await world.invocations() == {0: 2}
    assert repr(gateway.reports) == "<Reports: 0 periods to tell, 0 messages unanswered>"


async def test_link_that_breaks_counts_nothing_twice(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(2)
    gateway.tell()
    gateway.call_again()
    await world.ledger.write()
    assert await world.invocations() == {0: 2}
    assert world.ledger.totals[KEY].invocations == 2


async def test_full_disk_is_waited_for(world: World) -> None:
    gateway = Gateway(world)
    world.store.full = True
    gateway.invoke(2)
    gateway.tell()
    await world.ledger.write()
    assert (gateway.wire.sent, world.ledger.unwritten) == ([], 2)
    gateway.invoke(1)
    gateway.tell()
    world.store.full = False
    await world.ledger.write()
    assert (await world.invocations(), world.ledger.unwritten) == ({0: 3}, 0)
    assert gateway.wire.sent == [{"op": "metrics_stored", "number": 2}]


async def test_what_happens_without_a_control_plane_is_added_up_in_bounded_memory(world: World) -> None:
    gateway = Gateway(world)
    for _ in range(2 * MOST_PERIODS):
        gateway.invoke(5)
        gateway.collect()
        world.clock.time += 60
    assert repr(gateway.reports) == f"<Reports: {MOST_PERIODS} periods to tell, 0 messages unanswered>"
    gateway.tell()
    await world.ledger.write()
    found = await world.invocations()
    assert (len(found), sum(found.values())) == (MOST_PERIODS, 10 * MOST_PERIODS)


async def test_control_plane_that_answers_nothing_is_told_no_more_than_it_can_answer(world: World) -> None:
    gateway = Gateway(world)
    for _ in range(3 * MOST_UNANSWERED):
        gateway.invoke()
        gateway.tell()
    assert repr(gateway.reports) == f"<Reports: 1 periods to tell, {MOST_UNANSWERED} messages unanswered>"
    await world.ledger.write()
    gateway.hear()
    gateway.tell()
    await world.ledger.write()
    assert await world.invocations() == {0: 3 * MOST_UNANSWERED}


async def test_many_variants_are_told_in_slices_and_nothing_is_missed_in_between(world: World) -> None:
    gateway = Gateway(world)
    keys = [(*KEY[:3], f"v{number}") for number in range(3 * AT_A_TIME + 1)]
    gateway.meters.serve([KEY, *keys])

    def invoke() -> None:
        for key in keys:
            gateway.meters.of(*key).begin()
            gateway.meters.of(*key).end(200, 0.1, 0.1, 1)

    invoke()
    pauses = 0
    for _ in gateway.reports.collect(world.clock.now(), 1.0):
        gateway.invoke()
        gateway.meters.serve([KEY])  # the others go while they are looked at
        pauses += 1
    *nothing, message = gateway.reports.next_message()
    assert (pauses, nothing) == (3, [None] * 3)
    assert message is not None
    world.ledger.hear(gateway.wire, message)
    gateway.tell()
    counted = {key: delta.invocations for key, delta in world.ledger.totals.items()}
    assert counted == {KEY: 3, **dict.fromkeys(keys, 1)}


EVENTS = st.lists(st.sampled_from(["invoke", "tell", "write", "hear", "break", "kill", "full", "minute"]), max_size=60)


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_each_invocation_is_written_once_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    asyncio.run(_live(tmp_path_factory.mktemp("ledger"), events))


async def _live(folder: Path, events: list[str]) -> None:
    world = World(folder)
    gateways = [Gateway(world, "1"), Gateway(world, "2")]
    for number, event in enumerate(events):
        await _happen(world, gateways, gateways[number % 2], event)
    world.store.full = False
    for gateway in gateways:
        gateway.tell()
    await world.ledger.write()
    assert sum((await world.invocations()).values()) == events.count("invoke")
    world.store.close()


async def _happen(world: World, gateways: list[Gateway], gateway: Gateway, event: str) -> None:
    simple: dict[str, Callable[[], None]] = {
        "invoke": gateway.invoke,
        "tell": gateway.tell,
        "hear": gateway.hear,
        "break": gateway.call_again,
        "full": lambda: setattr(world.store, "full", not world.store.full),
        "minute": lambda: setattr(world.clock, "time", world.clock.time + 60),
    }
    if event == "write":
        await world.ledger.write()
    elif event == "kill":
        await world.restart()
        for one in gateways:
            one.call_again()
    else:
        simple[event]()


async def test_series_without_traffic_writes_no_rows(world: World) -> None:
    gateway = Gateway(world)
    gateway.tell()
    await world.ledger.write()
    assert await world.stored("Invocations") == await world.stored("ConcurrentRequestsPerModel") == {}


async def test_most_in_flight_is_sampled_over_all_gateways(world: World) -> None:
    one, two = Gateway(world, "1"), Gateway(world, "2")
    for gateway, count in ((one, 3), (two, 2)):
        for _ in range(count):
            gateway.meters.of(*KEY).begin()
        gateway.tell()
    assert world.ledger.in_flight() == {KEY: 5}
    await world.ledger.write()
    one.meters.of(*KEY).withdraw()
    for gateway in (one, two):
        gateway.tell()
    await world.ledger.write()
    one.tell()
    two.tell()
    await world.ledger.write()
    assert (await world.stored("ConcurrentRequestsPerModel"))[0] == Distribution(3, 14, 4, 5, {4: 1, 5: 2})
    world.ledger.left(two.wire)
    assert world.ledger.in_flight() == {KEY: 2}


async def test_old_metrics_are_deleted(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke()
    gateway.tell()
    await world.ledger.write()
    world.clock.time += 86_400 + 60
    gateway.invoke()
    gateway.tell()
    await world.ledger.write()
    assert await world.invocations() == {86_460: 1}


async def test_rates_are_those_of_the_last_seconds(world: World) -> None:
    gateway = Gateway(world)
    for count in (1000, 10, 20, 30, 40, 50):
        gateway.invoke(count)
        gateway.tell()
        world.clock.time += 1
    live, seconds = world.ledger.live()
    assert (live[KEY].invocations, seconds) == (150, 5)


async def test_what_comes_late_or_again_says_nothing_of_the_present(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(1000)
    gateway.tell(seconds=30.0)
    gateway.call_again()
    assert world.ledger.live() == ({}, 0)
    gateway.invoke(5)
    gateway.tell()
    live, seconds = world.ledger.live()
    assert (live[KEY].invocations, seconds) == (5, 1)


async def test_gateway_that_hangs_is_not_the_present(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(5)
    gateway.tell()
    world.clock.time += 10
    assert world.ledger.live() == ({}, 0)


async def test_totals_never_go_back_and_stay_as_long_as_a_variant_is_routed_to(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke(5)
    gateway.tell()
    world.routed = {KEY}
    world.clock.time += 2 * FORGET_SECONDS
    await world.ledger.write()
    gateway.invoke(1)
    gateway.tell()
    assert world.ledger.totals[KEY].invocations == 6
    world.routed = set()
    await world.ledger.write()
    assert KEY in world.ledger.totals
    world.clock.time += 2 * FORGET_SECONDS
    await world.ledger.write()
    assert world.ledger.totals == {}


async def test_loaded_models_are_counted_once_a_minute_of_each_instance(world: World) -> None:
    world.loaded = [(KEY, 3), (KEY, 5)]
    for _ in range(12):
        world.clock.time += 10
        await world.ledger.write()
    found = await world.stored("LoadedModelCount", namespace="/aws/sagemaker/Endpoints")
    assert len(found) in {2, 3}
    for values in found.values():
        assert (values.count, values.minimum, values.maximum) == (2, 3, 5)


async def test_what_the_fronts_of_many_models_have_measured_is_stored(world: World) -> None:
    gateway = Gateway(world)
    gateway.invoke()
    gateway.meters.of(*KEY).models([("ModelCacheHit", 0), ("ModelCacheHit", 1), ("ModelLoadingTime", 1500)])
    gateway.tell()
    await world.ledger.write()
    (hits,) = (await world.stored("ModelCacheHit")).values()
    (loads,) = (await world.stored("ModelLoadingTime")).values()
    assert (hits.count, hits.sum, loads.sum) == (2, 1, 1500)
