"""The front of a multi-model container that follows AWS's rules, over real sockets and a real store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.gateway import until
from tests.support.multi_model import ModelsWorld, fault, measures

from moorage.base.settings import Limits


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ModelsWorld]:
    world = ModelsWorld(tmp_path, capacity=2)
    yield world
    await world.close()


async def test_a_cold_model_is_loaded_and_then_invoked_and_a_hot_one_only_invoked(world: ModelsWorld) -> None:
    """data-plane.md section 12, line 51."""
    await world.put("a.tar.gz")
    await world.open()
    first = await world.ask("a.tar.gz")
    assert (first.status, first.body) == (200, b"a says x")
    second = await world.ask("a.tar.gz", b"y")
    assert (second.status, second.body) == (200, b"a says y")
    assert world.container_.calls == ["POST /models a", "invoke a", "invoke a"]
    assert measures(first)["ModelCacheHit"] == [0]
    assert measures(second) == {"ModelCacheHit": [1]}
    cold = measures(first)
    assert set(cold) == {"ModelCacheHit", "ModelLoadingWaitTime", "ModelDownloadingTime", "ModelLoadingTime"}
    assert cold["ModelLoadingWaitTime"][0] >= cold["ModelDownloadingTime"][0] + cold["ModelLoadingTime"][0] - 2000
    await until(lambda: {"op": "models", "container": "primary", "loaded": 1} in world.messages)


async def test_the_container_sees_an_opaque_name_its_own_path_and_the_target_as_a_header(world: ModelsWorld) -> None:
    await world.put("team/a.tar.gz", "a")
    await world.open()
    answer = await world.ask("team/a.tar.gz", Content_Type="text/csv", Accept="text/plain")
    assert answer.body == b"a says x"
    ((name, (url, _size)),) = world.container_.models.items()
    assert name.isalnum()
    assert "team" not in name
    assert url == f"{world.folder_of_models}/{name}/model"
    invocation = world.container_.requests[-1]
    assert invocation.line == f"POST /models/{name}/invoke HTTP/1.1"
    assert invocation.header("x-amzn-sagemaker-target-model") == "team/a.tar.gz"
    assert (invocation.header("content-type"), invocation.header("accept")) == ("text/csv", "text/plain")


async def test_the_least_recently_used_makes_room_and_the_load_is_tried_again(world: ModelsWorld) -> None:
    """data-plane.md section 12, line 52."""
    for target in "abc":
        await world.put(f"{target}.tar.gz")
    await world.open()
    for target in ("a", "b", "a", "c"):
        assert (await world.ask(f"{target}.tar.gz")).status == 200
    assert world.container_.calls == [
        *("POST /models a", "invoke a", "POST /models b", "invoke b", "invoke a"),
        *("POST /models c", "DELETE b", "POST /models c", "invoke c"),
    ]


async def test_unload_is_measured_and_told_with_a_next_answer(world: ModelsWorld) -> None:
    for target in "abc":
        await world.put(f"{target}.tar.gz")
    await world.open()
    told: list[str] = []
    for target in "abcc":
        told += measures(await world.ask(f"{target}.tar.gz"))
    assert told.count("ModelUnloadingTime") == 1


async def test_all_who_want_a_cold_model_share_one_load(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open()
    gate = world.container_.gates["a"] = asyncio.Event()
    asking = [asyncio.ensure_future(world.ask("a.tar.gz")) for _ in range(20)]
    await until(lambda: world.container_.loading == 1)
    gate.set()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
    assert world.container_.calls.count("POST /models a") == 1
    assert world.container_.calls.count("invoke a") == 20


async def test_loads_of_different_models_go_on_at_once_but_no_more_than_may(tmp_path: Path) -> None:
    world = ModelsWorld(tmp_path)
    gate = asyncio.Event()
    for target in "abcdef":
        await world.put(f"{target}.tar.gz")
        world.container_.gates[target] = gate
    await world.open(most_loads=3)
    asking = [asyncio.ensure_future(world.ask(f"{target}.tar.gz")) for target in "abcdef"]
    await until(lambda: world.container_.loading == 3)
    gate.set()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
    assert world.container_.most_loading == 3
    await world.close()


async def test_who_has_waited_for_too_long_is_told_so_and_the_load_goes_on(world: ModelsWorld) -> None:
    """data-plane.md section 12, line 53."""
    await world.put("a.tar.gz")
    await world.open(timeout_seconds=0.3)
    gate = world.container_.gates["a"] = asyncio.Event()
    assert fault(await world.ask("a.tar.gz"))[0] == "NotReady"
    assert fault(await world.ask("a.tar.gz"))[0] == "NotReady"
    gate.set()
    await until(lambda: world.container_.models)
    again = await world.ask("a.tar.gz")
    assert again.body == b"a says x"
    assert measures(again)["ModelCacheHit"] == [1]
    assert world.container_.calls == ["POST /models a", "invoke a"]


async def test_a_load_that_takes_longer_than_it_may_is_given_up_and_begun_anew_when_asked_for(
    world: ModelsWorld,
) -> None:
    await world.put("a.tar.gz")
    await world.open(load_seconds=0.3)
    gate = world.container_.gates["a"] = asyncio.Event()
    assert fault(await world.ask("a.tar.gz"))[0] == "NotReady"
    gate.set()
    await until(lambda: world.container_.loading == 0)
    world.container_.models.clear()
    assert (await world.ask("a.tar.gz")).body == b"a says x"


async def test_a_missing_object_is_told_with_its_uri_and_may_come_later(world: ModelsWorld) -> None:
    await world.put("b.tar.gz")
    await world.open()
    assert fault(await world.ask("a.tar.gz")) == ("NoModel", {"uri": "s3://models/fleet/a.tar.gz"})
    await world.put("a.tar.gz")
    assert (await world.ask("a.tar.gz")).body == b"a says x"


async def test_an_object_that_is_no_archive_is_told_with_its_reason(world: ModelsWorld) -> None:
    await world.put("b.tar.gz")

    await world.put_bytes("a.tar.gz", b"no archive")
    await world.open()
    kind, details = fault(await world.ask("a.tar.gz"))
    assert (kind, details["uri"]) == ("BadModel", "s3://models/fleet/a.tar.gz")
    assert details["reason"]


async def test_what_the_container_refuses_to_load_is_told_in_its_words(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.put("large.tar.gz", size=3)
    await world.put("b.tar.gz")
    world.container_.refusals["a"] = (500, "no rudder")
    await world.open()
    assert fault(await world.ask("a.tar.gz")) == ("NotLoaded", {"status": 500, "body": "no rudder"})
    assert (await world.ask("b.tar.gz")).status == 200
    assert fault(await world.ask("large.tar.gz")) == ("NotLoaded", {"status": 507, "body": "no memory"})
    assert world.container_.models == {}
    del world.container_.refusals["a"]
    assert (await world.ask("a.tar.gz")).status == 200


async def test_a_model_that_the_container_has_lost_is_loaded_once_more(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open()
    await world.ask("a.tar.gz")
    world.container_.lose("a")
    answers = await asyncio.gather(*(world.ask("a.tar.gz") for _ in range(10)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"a says x")}
    assert world.container_.calls.count("POST /models a") == 2


async def test_404_of_a_model_itself_is_its_answer(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open()
    await world.ask("a.tar.gz")
    world.container_.invocations["a"] = [(404, b"no such passenger")]
    answer = await world.ask("a.tar.gz")
    assert (answer.status, answer.body) == (404, b"no such passenger")
    assert "x-moorage-fault" not in answer.headers
    assert world.container_.calls.count("POST /models a") == 1


async def test_an_invocation_that_lacks_memory_gets_that_of_an_idle_model(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.put("b.tar.gz")
    await world.open()
    await world.ask("a.tar.gz")
    await world.ask("b.tar.gz")
    world.container_.invocations["b"] = [(507, b"out of memory")]
    assert (await world.ask("b.tar.gz")).body == b"b says x"
    assert world.container_.calls[-3:] == ["invoke b", "DELETE a", "invoke b"]
    world.container_.invocations["b"] = [(507, b"out of memory")]
    answer = await world.ask("b.tar.gz")
    assert (answer.status, answer.body) == (507, b"out of memory")


async def test_a_model_that_is_there_already_counts_as_loaded(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open()
    await world.ask("a.tar.gz")
    world.leave()
    assert world.front is not None
    await world.front
    models, world.container_.models = world.container_.models, {}
    await world.open_front()
    await world.ping()
    world.container_.models = models
    assert (await world.ask("a.tar.gz")).body == b"a says x"
    assert world.container_.calls == ["POST /models a", "invoke a", "POST /models a", "invoke a"]


async def test_without_a_cache_a_model_is_unloaded_and_removed_after_its_invocation(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open(caches=False)
    for _ in range(2):
        assert (await world.ask("a.tar.gz")).body == b"a says x"
        await until(lambda: not world.container_.models)
        await until(lambda: not list(world.folder_of_models.iterdir()))
    assert world.container_.calls == 2 * ["POST /models a", "invoke a", "DELETE a"]


async def test_what_is_loaded_is_served_and_a_change_in_the_store_comes_with_the_next_load(world: ModelsWorld) -> None:
    for target in "abc":
        await world.put(f"{target}.tar.gz")
    await world.open()
    await world.ask("a.tar.gz")
    await world.put("a.tar.gz", "another")
    assert (await world.ask("a.tar.gz")).body == b"a says x"
    await world.drop("b.tar.gz")
    assert fault(await world.ask("b.tar.gz"))[0] == "NoModel"
    await world.put("b.tar.gz")
    for target in "bca":
        answer = await world.ask(f"{target}.tar.gz")
    assert answer.body == b"another says x"


async def test_files_are_the_caches_own_under_second_names(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open()
    await world.ask("a.tar.gz")
    (file,) = world.folder_of_models.glob("*/model/name")
    assert file.stat().st_nlink == 2


async def test_well_only_when_the_container_tells_its_models(world: ModelsWorld) -> None:
    """data-plane.md section 7.4: the platform also calls GET /models during start-up."""
    world.container_.lists = False
    await world.open()
    answer = await world.ping()
    assert (answer.status, answer.body) == (503, b"primary: GET /models answered 404")
    world.container_.lists = True
    assert (await world.ping()).status == 200


async def test_a_new_front_takes_over_what_the_container_has_over_all_pages(tmp_path: Path) -> None:
    world = ModelsWorld(tmp_path, capacity=5)
    targets = [f"{target}.tar.gz" for target in "abcdef"]
    for target in targets:
        await world.put(target)
    await world.open()
    for target in targets[:5]:
        await world.ask(target)
    world.leave()
    assert world.front is not None
    await world.front
    world.messages.clear()
    await world.open_front()
    assert (await world.ping()).status == 200
    await until(lambda: world.messages == [{"op": "models", "container": "primary", "loaded": 5}])
    before = len(world.container_.calls)
    assert measures(await world.ask(targets[1]))["ModelCacheHit"] == [1]
    assert (await world.ask(targets[5])).status == 200
    assert world.container_.calls[before:] == ["invoke b", "POST /models f", "DELETE a", "POST /models f", "invoke f"]
    await world.close()


async def test_fifty_models_in_a_memory_for_ten(tmp_path: Path) -> None:
    world = ModelsWorld(tmp_path, capacity=10)
    targets = [f"m{number}.tar.gz" for number in range(50)]
    for target in targets:
        await world.put(target)
    await world.open(most_loads=4)
    for _ in range(2):
        answers = await asyncio.gather(*(world.ask(target) for target in targets))
        assert {answer.status for answer in answers} == {200}
        assert [answer.body for answer in answers] == [f"m{number} says x".encode() for number in range(50)]
        assert len(world.container_.models) <= 10
    await world.close()


async def test_a_caller_who_leaves_does_not_end_the_load(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.open()
    gate = world.container_.gates["a"] = asyncio.Event()
    leaving = asyncio.ensure_future(world.ask("a.tar.gz"))
    await until(lambda: world.container_.loading == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    await world.ping()  # answered after the front has seen that the caller has left
    gate.set()
    await until(lambda: world.container_.models)
    assert world.container_.calls == ["POST /models a"]
    assert (await world.ask("a.tar.gz")).body == b"a says x"


async def test_each_model_of_a_built_in_container_has_its_own_connections(world: ModelsWorld) -> None:
    await world.put("a.tar.gz")
    await world.put("b.tar.gz")
    await world.open(one_each=True)
    for target in "aabbab":
        assert (await world.ask(f"{target}.tar.gz")).status == 200
    assert world.container_.connections == 4, "one of each model, one for loads, and one of the ping"


async def test_where_the_disk_is_full_the_files_of_models_that_are_not_needed_go(world: ModelsWorld) -> None:
    for target in "abcd":
        await world.put(f"{target}.tar.gz")
    await world.open(limits=Limits(disk_reserve_bytes=2**60))
    for target in "abcd":
        assert (await world.ask(f"{target}.tar.gz")).status == 200
    there = sorted(path.read_text() for path in world.folder_of_models.glob("*/model/name"))
    assert there == ["c", "d"], "those that had made room in the memory were not needed"
    assert (await world.ask("a.tar.gz")).body == b"a says x"
