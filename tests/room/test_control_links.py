"""The control plane's links over real sockets: snapshots to gateways, orders to the node agent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from moorage.aws.credentials import Credential
from moorage.base.clock import SystemClock
from moorage.base.link import Link, connect, listen
from moorage.base.tasks import Tasks
from moorage.control.node_link import NodeLink
from moorage.control.publish import Publisher
from moorage.engine.contract import ContainerSpec, InstanceSpec, InstanceState
from moorage.routing.snapshot import Endpoint, Instance, Snapshot, Variant
from moorage.state.records import EndpointKey
from moorage.testing.builders import ACCOUNT, REGION
from moorage.testing.fake_gateway import FakeGateway
from moorage.testing.fake_node import FakeNode, Script
from moorage.testing.links import join
from moorage.testing.virtual_time import VirtualClock, run_virtually

KEY = EndpointKey(ACCOUNT, REGION, "ep")


def route(*instance_ids: str) -> Endpoint:
    ready = tuple(Instance(instance_id, f"unix:/{instance_id}") for instance_id in instance_ids)
    return Endpoint(ACCOUNT, REGION, "ep", "arn", (Variant("v", 1.0, "primary", ready),))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


class Saved:
    """Remembers what was written, and when."""

    def __init__(self) -> None:
        self.versions: list[Snapshot] = []

    async def __call__(self, content: bytes) -> None:
        self.versions.append(Snapshot.from_message(orjson.loads(content)))


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


async def call(path: Path) -> Link:
    link = await connect(path)
    await link.send({"op": "hello", "role": "gateway"})
    return link


async def received(link: Link) -> Snapshot:
    message = await asyncio.wait_for(link.receive(), 5)
    return Snapshot.from_message(message["snapshot"])


async def test_snapshot_is_on_disk_before_it_is_sent_and_in_force_when_applied(tmp_path: Path, tasks: Tasks) -> None:
    saved = Saved()
    publisher = Publisher(Snapshot(3), saved, tasks)
    woken: list[EndpointKey] = []
    publisher.tell(woken.extend)
    server = await listen(tmp_path / "s", publisher.serve)
    gateway = await call(tmp_path / "s")
    assert (await received(gateway)).version == 3
    await gateway.send({"op": "applied", "version": 3})
    await until(lambda: publisher.in_force(KEY))
    await publisher.publish_route(KEY, route("i-1"))
    assert saved.versions[-1].endpoints[KEY] == route("i-1")
    assert not publisher.in_force(KEY)
    assert (await received(gateway)).endpoints[KEY] == route("i-1")
    await gateway.send({"op": "applied", "version": 4})
    await until(lambda: publisher.in_force(KEY))
    assert KEY in woken
    await gateway.close()
    server.close()


async def test_instance_is_in_use_until_it_is_drained_or_the_gateway_goes(tmp_path: Path, tasks: Tasks) -> None:
    publisher = Publisher(Snapshot(0), Saved(), tasks)
    server = await listen(tmp_path / "s", publisher.serve)
    first, second = await call(tmp_path / "s"), await call(tmp_path / "s")
    for gateway in (first, second):
        await received(gateway)
        await gateway.send({"op": "applied", "version": 0})
    await publisher.publish_route(KEY, route("i-1", "i-2"))
    for gateway in (first, second):
        await received(gateway)
        await gateway.send({"op": "applied", "version": 1})
    await until(lambda: publisher.in_use() == {"i-1", "i-2"})
    await publisher.publish_route(KEY, route("i-2"))
    await received(first)
    await first.send({"op": "applied", "version": 2})
    await first.send({"op": "drained", "instance_ids": ["i-1"]})
    assert publisher.in_use() == {"i-1", "i-2"}
    await second.close()
    await until(lambda: publisher.in_use() == {"i-2"})
    await first.close()
    server.close()


async def test_nothing_is_decided_before_all_gateways_have_called(tmp_path: Path, tasks: Tasks) -> None:
    publisher = Publisher(Snapshot(0), Saved(), tasks, gateways=2)
    woken = asyncio.Event()
    meeting = tasks.start("meeting", publisher.meet(woken.set))
    server = await listen(tmp_path / "s", publisher.serve)
    first = await call(tmp_path / "s")
    await received(first)
    await first.send({"op": "applied", "version": 0})
    await until(lambda: publisher.in_force(KEY))
    assert (publisher.ready, publisher.keys_in_force(), woken.is_set()) == (False, False, False)

    second = await call(tmp_path / "s")
    await received(second)
    await second.send({"op": "applied", "version": 0})

    await asyncio.wait_for(woken.wait(), 1)
    assert (publisher.ready, publisher.keys_in_force()) == (True, True)
    await meeting
    await first.close()
    await second.close()
    server.close()


def test_a_gateway_that_never_comes_is_waited_for_in_vain_only_for_seconds() -> None:
    async def start_with_one_of_two() -> float:
        tasks, clock = Tasks(), VirtualClock()
        publisher = Publisher(Snapshot(0), Saved(), tasks, gateways=2)
        near, far = join()
        tasks.start("snapshots", publisher.serve(near))
        tasks.start("gateway", FakeGateway(clock).call(far))
        await publisher.meet(lambda: None)
        assert publisher.ready
        await tasks.close()
        return clock.monotonic()

    assert run_virtually(start_with_one_of_two()) == pytest.approx(5.0)


async def test_nothing_is_published_when_nothing_has_changed(tmp_path: Path, tasks: Tasks) -> None:
    saved = Saved()
    publisher = Publisher(Snapshot(0), saved, tasks)
    keys = {"A": Credential("A", "s", ACCOUNT, "ann")}
    await publisher.publish_keys(keys)
    await publisher.publish_keys(dict(keys))
    await publisher.publish_route(KEY, None)
    assert [snapshot.version for snapshot in saved.versions] == [1]


async def test_caller_that_says_nothing_useful_is_left_behind(tmp_path: Path, tasks: Tasks) -> None:
    publisher = Publisher(Snapshot(0), Saved(), tasks)
    server = await listen(tmp_path / "s", publisher.serve)
    link = await connect(tmp_path / "s")
    await link.close()
    stranger = await call(tmp_path / "s")
    await received(stranger)
    await stranger.send({"op": "nonsense"})
    await stranger.send({"op": "applied", "version": 0})
    await until(lambda: publisher.in_force(KEY))
    await stranger.close()
    server.close()


def a_spec(instance_id: str) -> InstanceSpec:
    container = ContainerSpec("primary", "image:1", {}, None)
    return InstanceSpec(instance_id, ACCOUNT, REGION, "ep", "v", "ml.m5.large", (container,), 240.0)


async def no_node() -> Link:
    raise FileNotFoundError


async def test_node_link_follows_an_agent_over_its_restarts(tmp_path: Path, tasks: Tasks) -> None:
    path, clock = tmp_path / "node", SystemClock()
    woken = [0]

    def wake_all() -> None:
        woken[0] += 1

    node = NodeLink(lambda: connect(path), clock)
    tasks.start("node link", node.run(wake_all))
    assert not node.known
    agent = FakeNode(clock, tasks, lambda _spec: Script(ready_after=0.01, stop_seconds=0.01))
    server = await listen(path, agent.serve)
    await until(lambda: node.known)
    await node.launch(a_spec("i-1"))
    await node.launch(a_spec("i-1"))
    await until(lambda: [r.state for r in node.all_reports()] == [InstanceState.READY])
    assert agent.calls == [("launch", "i-1")]
    await agent.restart()
    await until(lambda: woken[0] == 2)
    assert node.all_reports() == []
    await node.launch(a_spec("i-1"))
    await until(lambda: [r.state for r in node.all_reports()] == [InstanceState.READY])
    await node.stop("i-1")
    await until(lambda: [r.state for r in node.all_reports()] == [InstanceState.STOPPED])
    await node.forget(KEY, "i-1")
    await until(lambda: not agent.reports)
    assert node.reports_of(KEY) == {}
    server.close()


async def test_orders_without_an_agent_are_left_for_later() -> None:
    node = NodeLink(no_node, SystemClock())
    await node.launch(a_spec("i-1"))
    await node.stop("i-1")
    assert repr(node) == "<NodeLink: not linked, unknown, 0 instances>"
