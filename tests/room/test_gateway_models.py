"""A gateway and the front of a multi-model instance: what a client sees, and what is counted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.gateway import World, answers, endpoint, signed, snapshot, until, variant, world
from tests.support.multi_model import ModelsWorld

from moorage.routing.snapshot import Instance, Mode, Variant

TARGET = "x_amzn_sagemaker_target_model"


def of_models(models: ModelsWorld, name: str = "v1") -> Variant:
    instances = (Instance("i-models", f"unix:{models.path}"),)
    return Variant(name, 1.0, "primary", instances, mode=Mode.SERIAL, containers=("primary",), multi_model=("primary",))


@contextlib.asynccontextmanager
async def both(*more: Variant, timeout_seconds: float = 10.0) -> AsyncIterator[tuple[World, ModelsWorld]]:
    """Make a gateway with an endpoint of one multi-model instance, which has the models a and b."""
    async with world(invocation_timeout_seconds=timeout_seconds) as made:
        (made.folder / "f").mkdir()
        models = ModelsWorld(made.folder / "f", capacity=2)
        for target in ("a.tar.gz", "b.tar.gz"):
            await models.put(target)
        await models.open(timeout_seconds=timeout_seconds)
        try:
            await made.start(endpoint("ep", of_models(models), *more))
            yield made, models
        finally:
            await models.close()


async def test_the_target_model_answers() -> None:
    async with both() as (made, _models):
        answers = [await made.invoke("ep", b"x", **{TARGET: f"{name}.tar.gz"}) for name in "aabb"]
    assert [(answer.status, answer.body) for answer in answers] == [
        *2 * [(200, b"a says x")],
        *2 * [(200, b"b says x")],
    ]
    assert answers[0].headers["x-amzn-invoked-production-variant"] == "v1"
    assert not [name for name in answers[0].headers if name.startswith("x-moorage")]


async def test_missing_and_malformed_target_models_are_refused() -> None:
    """data-plane.md section 12, line 21."""
    async with both() as (made, models):
        answer = await made.invoke("ep", b"x")
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
        request_id = answer.headers["x-amzn-requestid"]
        assert answer.json["Message"] == (
            f"Request {request_id} is missing a target model header, which is required to invoke multi-model endpoint "
            "ep."
        )
        for target in ("/a.tar.gz", "../a.tar.gz", "x/../../a.tar.gz"):
            answer = await made.invoke("ep", b"x", **{TARGET: target})
            assert (answer.status, answer.json["ErrorCode"]) == (400, "TARGET_MODEL_NOT_VALID")
        assert models.container_.calls == []


async def test_streams_of_many_models_are_refused_because_they_cannot_name_one() -> None:
    async with both() as (made, _models):
        target = ("x-amzn-sagemaker-target-model", "a.tar.gz")
        answer = await made.raw(signed("/endpoints/ep/invocations-response-stream", b"x", [target], made.port))
    assert answer.status == 400
    assert "is missing a target model header" in answer.json["Message"]


async def test_target_model_of_an_endpoint_of_one_model_is_refused() -> None:
    """data-plane.md section 12, line 20."""
    async with world() as made:
        await made.start(endpoint("ep", variant("v1", await made.instance("s", answers(b"x")))))
        answer = await made.invoke("ep", b"x", **{TARGET: "a.tar.gz"})
    assert (answer.status, answer.json["ErrorCode"]) == (400, "TARGET_MODEL_HEADER_NOT_SUPPORTED")
    assert answer.json["Message"] == (
        "Endpoint ep is not a multi-model endpoint and does not support target model header."
    )


async def test_variants_of_one_endpoint_may_differ() -> None:
    async with both() as (made, models):
        server = await made.instance("s", answers(b"x"))
        await made.control.publish(snapshot(2, endpoint("ep", of_models(models), variant("v2", server))))
        await until(lambda: [said for said in made.control.said("applied") if said["version"] == 2])
        wish = {"x_amzn_sagemaker_target_variant": "v2"}
        assert (await made.invoke("ep", b"x", **wish)).status == 200
        answer = await made.invoke("ep", b"x", **wish, **{TARGET: "a.tar.gz"})
        assert answer.json["ErrorCode"] == "TARGET_MODEL_HEADER_NOT_SUPPORTED"
        wish = {"x_amzn_sagemaker_target_variant": "v1"}
        assert (await made.invoke("ep", b"x", **wish, **{TARGET: "a.tar.gz"})).body == b"a says x"


async def test_a_missing_object_is_told_in_aws_words() -> None:
    async with both() as (made, _models):
        answer = await made.invoke("ep", b"x", **{TARGET: "c.tar.gz"})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert answer.json["Message"] == (
        "Failed to download model data(bucket: models, key: fleet/c.tar.gz). Please ensure that there is an object "
        "located at the URL and that the role passed to CreateModel has permissions to download the model."
    )


async def test_a_model_that_is_not_ready_in_time_is_429_and_a_later_call_finds_it() -> None:
    """data-plane.md section 12, line 53."""
    async with both(timeout_seconds=0.5) as (made, models):
        gate = models.container_.gates["a"] = asyncio.Event()
        answer = await made.invoke("ep", b"x", **{TARGET: "a.tar.gz"})
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (429, "ModelNotReadyException")
        assert answer.json["Message"] == "Model is not ready for inference. Wait and try your request again."
        gate.set()
        await until(lambda: models.container_.models)
        assert (await made.invoke("ep", b"x", **{TARGET: "a.tar.gz"})).body == b"a says x"
        assert models.container_.calls == ["POST /models a", "invoke a"]


async def test_what_the_container_says_of_a_load_is_a_model_error() -> None:
    async with both() as (made, models):
        models.container_.refusals["a"] = (507, "no memory")
        answer = await made.invoke("ep", b"x", **{TARGET: "a.tar.gz"})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (424, "ModelError")
    assert (answer.json["OriginalStatusCode"], answer.json["OriginalMessage"]) == (507, "no memory")
    assert answer.json["Message"].startswith('Received server error (507) from primary with message "no memory". See ')


async def test_loads_waits_and_hits_are_counted() -> None:
    async with both() as (made, models):
        await models.put("c.tar.gz")
        for target in ("a", "a", "b", "c", "c"):
            await made.invoke("ep", b"x", **{TARGET: f"{target}.tar.gz"})
        found: dict[str, Any] = {}

        def counted() -> bool:
            for message in made.control.said("metrics"):
                for _start, entries in message["periods"]:
                    for *_key, delta in entries:
                        for name, values in delta[-3].items():
                            found[name] = found.get(name, 0) + values[0]
            return bool(found)

        await until(counted)
        found.clear()
        await until(lambda: counted() and found.get("ModelUnloadingTime"))
    assert found["ModelCacheHit"] >= 5
    assert set(found) == {
        "ModelCacheHit", "ModelLoadingWaitTime", "ModelDownloadingTime", "ModelLoadingTime", "ModelUnloadingTime",
    }  # fmt: skip
