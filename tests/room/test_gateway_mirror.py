"""The mirror: a shadow variant gets its share of copies, and nothing that it does is felt by anybody else."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.capture import CAPTURE, inputs_of, make_recorder, make_store, payload, records
from tests.support.gateway import (
    FakeServer,
    RacingClock,
    Request,
    Script,
    answers,
    cuts,
    endpoint,
    hangs,
    says,
    snapshot,
    until,
    variant,
)

from moorage.base.chance import seeded_chance
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.gateway.capture.recorder import Recorder
from moorage.gateway.instances import Instances
from moorage.gateway.shadow import copies as shadow_copy
from moorage.gateway.shadow.copies import SHADOW_BYTES
from moorage.gateway.shadow.mirror import Mirror
from moorage.routing.decide import make_routing
from moorage.routing.snapshot import Endpoint, Instance, Variant

OK = answers(b"ok", headers="Content-Type: text/csv\r\n")
TICK_SECONDS = 0.01


class Room:
    """A mirror with scripted instances; time passes as many times faster as ``speed`` says."""

    def __init__(self, folder: Path, store: Any, speed: float, limits: Limits) -> None:
        self.folder = folder
        self.store = store
        self.tasks = Tasks()
        self.clock = RacingClock(speed)
        self.drained: list[str] = []
        self.unreachable: list[str] = []
        self.observed: list[tuple[str, int]] = []
        self.instances = Instances(
            self.tasks,
            self.clock,
            drained=self.drained.append,
            unreachable=self.unreachable.append,
            recovered=lambda: None,
            most_outstanding=limits.invocations_per_instance,
        )
        self.recorder: Recorder = make_recorder(folder, store)
        self.mirror = Mirror(
            self.instances,
            self.recorder,
            limits,
            self.clock,
            seeded_chance(1),
            observe=lambda _, name, status, __: self.observed.append((name, status)),
        )
        self.servers: list[FakeServer] = []

    async def server(self, name: str, *scripts: Script) -> FakeServer:
        server = FakeServer(self.folder / f"{name}.sock", *scripts)
        self.servers.append(server)
        await server.start()
        return server

    def route(self, *endpoints: Endpoint) -> None:
        routing = make_routing(snapshot(1, *endpoints))
        self.instances.apply(routing.instances)
        self.recorder.apply(routing)
        self.mirror.apply(routing)

    async def shadowed(self, *scripts: Script, weight: float = 1.0, reads_bodies: bool = True) -> Endpoint:
        """Route an endpoint by a production variant without instances and a shadow variant with one."""
        server = await self.server("shadow", *scripts)
        server.reads_bodies = reads_bodies
        made = shadowed(variant("dark", server, weight=weight))
        self.route(made)
        return made

    def copy(self, to: Endpoint, body: bytes = b"1,2", *, sampled: bool = False) -> None:
        self.mirror.copy(
            to, payload(body), b"X-Of-The-Client: x\r\n", at=1_700_000_000.0, sampled=sampled, inference_id="id"
        )

    def counted(self, **expected: int) -> bool:
        counts = self.mirror.counts()
        return {name: counts[name] for name in expected} == expected

    async def tick(self) -> None:
        while True:
            now = self.clock.monotonic()
            self.mirror.tick(now)
            self.instances.sweep(now)
            await asyncio.sleep(TICK_SECONDS)


def shadowed(*shadows: Variant, name: str = "ep") -> Endpoint:
    return replace(endpoint(name, variant("v1")), shadows=shadows, capture=CAPTURE)


@contextlib.asynccontextmanager
async def room(speed: float = 1.0, **limits: Any) -> AsyncIterator[Room]:
    folder = Path(tempfile.mkdtemp(prefix="mi-"))
    store = await make_store(folder)
    made = Room(folder, store, speed, replace(Limits(), **limits))
    made.recorder.start(made.tasks)
    made.tasks.start("tick", made.tick())
    try:
        yield made
    finally:
        await made.mirror.close()
        for server in made.servers:
            await server.kill()
        await made.recorder.close()
        await made.tasks.close()
        await asyncio.to_thread(store.close)
        shutil.rmtree(folder)
    counts = made.mirror.counts()
    assert (counts["in_flight"], counts["held_bytes"]) == (0, 0)
    assert all(one.in_flight == 0 and one.held_bytes == 0 for one in made.mirror._shadowed.values())


async def endless(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        await writer.drain()


async def trickles(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_the_shadow_gets_its_share_exactly() -> None:
    async with room() as made:
        to = await made.shadowed(OK, weight=0.3)
        for _ in range(100):
            made.copy(to)
            await until(lambda: made.counted(in_flight=0))
        assert made.counted(copied=30, answered=30)
        (server,) = made.servers
        assert (len(server.requests), server.connections) == (30, 1)


async def test_the_copy_is_the_request() -> None:
    async with room() as made:
        to = await made.shadowed(OK)
        made.copy(to, b"x" * 1_000_000)
        await until(lambda: made.counted(answered=1))
        (request,) = made.servers[0].requests
        assert (request.line, request.header("host"), request.header("x-of-the-client"), request.body) == (
            "POST /invocations HTTP/1.1",
            "localhost",
            "x",
            b"x" * 1_000_000,
        )
        assert made.observed == [("dark", 200)]


async def test_an_endpoint_without_a_shadow_costs_nothing() -> None:
    async with room() as made:
        made.copy(endpoint("ep", variant("v1")))
        assert (made.counted(copied=0), made.mirror._shadowed) == (True, {})


async def test_counting_goes_on_from_snapshot_to_snapshot() -> None:
    async with room() as made:
        to = await made.shadowed(OK, weight=0.5)
        for _ in range(20):
            made.copy(to)
            made.route(to := replace(to))
        await until(lambda: made.counted(answered=10))
        made.copy(to)
        made.route(to := replace(to, shadows=(replace(to.shadows[0], weight=1.0),)))
        made.copy(to)
        assert made.counted(copied=11)


@pytest.mark.parametrize(
    ("script", "count", "status"),
    [
        (hangs, "timed_out", 0),
        (trickles, "timed_out", 0),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "timed_out", 0),
        (answers(b"bad", 500), "model_errors", 500),
        (answers(b"bad", 404), "model_errors", 404),
        (answers(b"", 302), "model_errors", 302),
        (answers(b"", 204), "answered", 204),
        (endless, "answer_too_large", 0),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "answer_too_large", 0),
        (says(b"garbage\r\n\r\n"), "broken", 0),
        (says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), "broken", 0),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "broken", 0),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000), "broken", 0),
        (cuts(b""), "broken", 0),
        (cuts(b"HTTP/1.1 200 OK\r\nContent-Le"), "broken", 0),
        (cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "broken", 0),
        (cuts(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), "answered", 200),
    ],
)
async def test_whatever_a_shadow_answers_the_copy_ends_and_holds_nothing(
    script: Script, count: str, status: int
) -> None:
    async with room(speed=300.0) as made:  # a minute in 200 ms
        to = await made.shadowed(script)
        made.copy(to)
        await until(lambda: made.counted(in_flight=0, held_bytes=0, **{count: 1}))
        assert made.observed == [("dark", status)]
        made.copy(to)
        await until(lambda: made.counted(in_flight=0, copied=2))


async def test_a_shadow_that_never_reads_the_request_is_left_when_its_time_is_up() -> None:
    async with room(speed=100.0) as made:
        to = await made.shadowed(answers(b""), reads_bodies=False)
        made.servers[0].scripts = [waits_for_ever]
        made.copy(to, b"x" * 30_000_000)
        await until(lambda: made.counted(timed_out=1, held_bytes=0))
        assert made.instances.outstanding("i-shadow") == 0


async def waits_for_ever(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.01)


async def test_a_shadow_that_never_accepts_is_left_alone() -> None:
    async with room(speed=20.0, invocation_timeout_seconds=10.0) as made:
        path = made.folder / "deaf.sock"
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
            deaf.listen(0)
            to = shadowed(Variant("dark", 1.0, "primary", (Instance("i-deaf", f"unix:{path}"),)))
            made.route(to)
            for _ in range(20):
                made.copy(to)
            await until(lambda: made.counted(in_flight=0))
            counts = made.mirror.counts()
        assert counts["timed_out"] > 0
        # Event loops differ in what they make of a full queue of connections.
        assert counts["timed_out"] + counts["refused"] + counts["broken"] == 20


async def test_a_dead_shadow_is_asked_and_reported_now_and_then() -> None:
    async with room(speed=10.0) as made:
        to = await made.shadowed(OK)
        await made.servers[0].kill()
        asked = 0
        for _ in range(200):
            made.copy(to)
            asked += 1
            await asyncio.sleep(0.005)
        await until(lambda: made.counted(in_flight=0))
        counts = made.mirror.counts()
        assert counts["refused"] + counts["skipped_no_instance"] == asked
        assert 1 <= len(made.unreachable) <= 6  # 10 seconds and more: at 0, 1, 3, 7, 15, 31
        assert counts["refused"] <= 2 * len(made.unreachable)


async def test_a_shadow_that_comes_back_gets_copies_again() -> None:
    async with room(speed=20.0) as made:
        to = await made.shadowed(OK)
        await made.servers[0].kill()
        made.copy(to)
        await until(lambda: made.counted(refused=1))
        await made.servers[0].start()

        def answered() -> bool:
            made.copy(to)
            return made.mirror.counts()["answered"] > 0

        await until(answered)
        assert repr(made.mirror).endswith(f"0 instances refuse, {made.mirror.counts()['copied']} copied>")


async def test_another_instance_of_the_shadow_takes_what_a_dead_one_does_not() -> None:
    async with room() as made:
        dead, alive = await made.server("dead", OK), await made.server("alive", OK)
        to = shadowed(variant("dark", dead, alive))
        made.route(to)
        await dead.kill()
        for _ in range(50):
            made.copy(to)
            await until(lambda: made.counted(in_flight=0))
        counts = made.mirror.counts()
        assert counts["refused"] <= 3
        assert counts["answered"] == 50 - counts["refused"]


async def test_copies_in_flight_are_bounded_per_endpoint() -> None:
    async with room(shadow_invocations=5) as made:
        to = await made.shadowed(hangs)
        other_server = await made.server("other", OK)
        other = shadowed(variant("dark", other_server), name="other")
        made.route(to, other)
        for _ in range(12):
            made.copy(to)
        assert made.counted(copied=5, skipped_full=7, in_flight=5)
        made.copy(other)
        await until(lambda: made.counted(answered=1))


async def test_the_bytes_that_copies_hold_are_bounded() -> None:
    async with room() as made:
        to = await made.shadowed(hangs)
        for _ in range(5):
            made.copy(to, b"x" * 20_000_000)
        made.copy(to, b"x" * (SHADOW_BYTES + 1))
        assert made.counted(copied=3, skipped_full=2, skipped_too_large=1, held_bytes=60_000_000)


async def test_an_endless_answer_is_read_no_faster_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_copy, "READ_BYTES", 300_000)
    async with room() as made:
        to = await made.shadowed(endless)
        before = made.clock.monotonic()
        made.copy(to)
        await until(lambda: made.counted(answer_too_large=1))
        # 25 MB in pieces of at most 300 kB and one read (256 kB) a tick
        assert made.clock.monotonic() - before >= 26_214_400 / (300_000 + 262_144) * TICK_SECONDS * 0.8


async def test_the_answer_to_a_sampled_copy_is_recorded_under_the_shadow_s_name() -> None:
    async with room() as made:
        to = await made.shadowed(OK, answers(b"bad", 500))
        made.copy(to, b"1", sampled=True)
        await until(lambda: made.counted(answered=1))
        made.copy(to, b"2", sampled=True)
        made.copy(to, b"3", sampled=False)
        await until(lambda: made.counted(model_errors=2))
        await made.recorder.close()
        found = await records(made.store, "data/ep/dark/")
    assert inputs_of(found) == ["1"]
    assert found[0]["captureData"]["endpointOutput"] == {
        "observedContentType": "text/csv",
        "mode": "OUTPUT",
        "data": "ok",
        "encoding": "CSV",
    }
    assert found[0]["eventMetadata"]["inferenceId"] == "id"


async def test_an_answer_too_large_for_a_record_is_not_kept() -> None:
    async with room() as made:
        to = await made.shadowed(answers(b"x" * 10_000_001))
        made.copy(to, sampled=True)
        await until(lambda: made.counted(answered=1))
        counts = made.recorder.counts()
        assert (counts["dropped_too_large"], counts["waiting"]) == (1, 0)


async def test_answers_that_are_kept_count_among_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_copy, "SHADOW_BYTES", 1_000_000)
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 900_000
    async with room() as made:
        to = await made.shadowed(says(body))
        for _ in range(3):
            made.copy(to, sampled=True)
        await until(lambda: made.recorder.counts()["dropped_too_large"] >= 2)
        assert made.mirror.counts()["held_bytes"] <= 1_000_000


async def test_the_end_gives_copies_a_moment_and_no_more() -> None:
    release = asyncio.Event()

    async def when_released(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with room() as made:
        to = await made.shadowed(when_released, hangs)
        made.copy(to)
        made.copy(to)
        await until(lambda: len(made.servers[0].requests) == 2)
        closing = made.tasks.start("close", made.mirror.close())
        release.set()
        await closing
        made.copy(to)
        assert made.counted(copied=2, answered=1, abandoned=1, in_flight=0)
        assert made.observed == [("dark", 200)]


async def test_what_left_the_snapshot_is_forgotten() -> None:
    async with room() as made:
        to = await made.shadowed(OK)
        made.copy(to)
        await until(lambda: made.counted(answered=1))
        made.route()
        assert made.mirror._shadowed == {}
        made.copy(to)
        await until(lambda: made.counted(in_flight=0, refused=1))


async def test_a_copy_does_not_hold_up_the_end_of_an_instance_that_has_left_the_snapshot() -> None:
    async with room(speed=10.0) as made:
        to = await made.shadowed(hangs)
        made.copy(to)
        await until(lambda: made.servers[0].requests)
        made.route(replace(to, shadows=()))
        made.route(replace(to, shadows=()))
        assert made.counted(in_flight=1)
        await until(lambda: made.counted(abandoned=1, in_flight=0))
        assert (made.drained, made.observed) == (["i-shadow"], [])
