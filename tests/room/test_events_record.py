"""Events of endpoints in a simulated world: recorded in order, with what they tell of, and within bounds."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from moorage.state import endpoints, events
from moorage.state.events import Retention
from moorage.state.records import EndpointKey
from moorage.state.store import InlineStore
from moorage.testing.builders import ACCOUNT, REGION
from moorage.testing.fake_node import Script, Scripts
from moorage.testing.virtual_time import run_virtually
from moorage.testing.world import ControlWorld, Killer

KEY = EndpointKey(ACCOUNT, REGION, "ep")


def play(folder: Path, scene: Callable[[ControlWorld], Awaitable[None]], scripts: Scripts, **options: Any) -> None:
    async def main() -> None:
        world = ControlWorld(folder, scripts=scripts, **options)
        try:
            await scene(world)
        finally:
            await world.close()

    run_virtually(main())


async def told(world: ControlWorld) -> list[str]:
    """Give the journal in short: statuses, and of deployments what is being done to each variant."""
    found = await world.store.read(lambda connection: events.read_after(connection, 0, 1000))
    assert [record.position for record in found] == list(range(1, len(found) + 1))
    return [_short(record.document) for record in found]


def _short(event: Any) -> str:
    detail = event["detail"]
    if event["detail-type"] == "SageMaker Endpoint State Change":
        return str(detail["EndpointStatus"])
    summaries = [detail, detail.get("PendingDeploymentSummary") or {}]
    variants = [variant for summary in summaries for variant in summary.get("ProductionVariants", ())]
    doing = [status["Status"] for variant in variants for status in variant.get("VariantStatus", ())]
    return f"deployment {doing}"


def test_life_of_an_endpoint_is_told_in_order(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("InService")
        await world.ask("DeleteEndpoint", EndpointName="ep")
        await world.until_status(None)
        assert await told(world) == [
            "CREATING",
            "deployment ['Creating']",
            "IN_SERVICE",
            "deployment []",
            "DELETING",
            "deployment ['Deleting']",
            "DELETED",
        ]

    play(tmp_path, scene, lambda _spec: Script())


def test_failure_is_told_with_its_reason(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("Failed")
        found = await world.store.read(lambda connection: events.read_after(connection, 0, 1000))
        (failed,) = [r.document["detail"] for r in found if r.document["detail"]["EndpointStatus"] == "FAILED"][:1]
        assert "did not pass the ping health check" in failed["FailureReason"]

    play(tmp_path, scene, lambda _spec: Script(fails_after=1.0))


def test_variant_status_that_follows_from_reports_alone_is_told(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2})
        await world.until_status("InService")
        before = len(await told(world))
        await world.ask(
            "UpdateEndpointWeightsAndCapacities",
            EndpointName="ep",
            DesiredWeightsAndCapacities=[{"VariantName": "a", "DesiredInstanceCount": 1}],
        )
        await world.until_status("InService")
        assert (await told(world))[before:] == [
            "UPDATING",
            "deployment ['Deleting']",
            "deployment []",
            "IN_SERVICE",
        ]

    play(tmp_path, scene, lambda _spec: Script(stop_seconds=5.0))


def test_restart_tells_nothing_twice(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("InService")
        before = await told(world)
        await world.restart()
        await world.pass_time(100.0)
        assert await told(world) == before

    play(tmp_path, scene, lambda _spec: Script())


def test_each_status_is_told_once_wherever_the_control_plane_dies(tmp_path: Path) -> None:
    statuses = ["CREATING", "IN_SERVICE"]

    def life(folder: Path, killer: Killer) -> Killer:
        async def scene(world: ControlWorld) -> None:
            await world.create({"a": 1})
            killer.armed = True
            await world.until_status("InService")
            killer.armed = False
            await world.pass_time(5.0)
            assert [short for short in await told(world) if not short.startswith("deployment")] == statuses

        folder.mkdir()
        play(folder, scene, lambda _spec: Script(), killer=killer)
        return killer

    points = life(tmp_path / "whole", Killer()).passed
    assert points > 5
    for point in range(points):
        life(tmp_path / str(point), Killer(point))


def _write(keep: Retention, *times: float) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        for now in times:
            events.append(connection, KEY, now, [{"at": now}], keep)

    return work


async def test_journal_keeps_so_many_and_no_older_ones_but_always_the_newest(tmp_path: Path) -> None:
    store = InlineStore(tmp_path / "state.db")
    await store.transact(_write(Retention(3, 100.0), 1.0, 2.0, 3.0, 4.0))
    assert [r.position for r in await store.read(lambda c: events.read_after(c, 0, 10))] == [2, 3, 4]
    await store.transact(_write(Retention(3, 100.0), 103.5))
    assert [r.position for r in await store.read(lambda c: events.read_after(c, 0, 10))] == [4, 5]
    await store.transact(_write(Retention(0, 100.0), 999.0))
    assert [r.position for r in await store.read(lambda c: events.read_after(c, 0, 10))] == [6]
    assert await store.read(events.oldest_position) == 6
    store.close()


async def test_others_see_nothing_of_an_account_and_a_region(tmp_path: Path) -> None:
    store = InlineStore(tmp_path / "state.db")
    await store.transact(_write(Retention(10, 100.0), 1.0))
    for place, endpoint, count in (
        ((ACCOUNT, REGION), None, 1),
        ((ACCOUNT, REGION), "ep", 1),
        ((ACCOUNT, REGION), "other", 0),
        ((ACCOUNT, "eu-west-1"), None, 0),
        (("111111111111", REGION), None, 0),
    ):
        found = await store.read(lambda c, p=place, e=endpoint: events.read_after_of(c, 0, 10, p, e))  # type: ignore[misc]
        assert len(found) == count
    store.close()


def test_what_is_rolled_back_is_not_told(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("InService")
        before = await told(world)

        def fail(connection: Connection) -> None:
            endpoint = endpoints.find(connection, KEY)
            assert endpoint is not None
            endpoints.remove(connection, endpoint)
            raise LookupError

        with pytest.raises(LookupError):
            await world.store.transact(fail)
        assert await told(world) == before

    play(tmp_path, scene, lambda _spec: Script())
