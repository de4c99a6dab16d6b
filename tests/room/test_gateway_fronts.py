"""A gateway and the front of an instance of several containers: what a client sees of them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.support.front import BODY_BYTES, FrontWorld
from tests.support.gateway import ACCOUNT, World, answers, cuts, endpoint, hangs, signed, until, variant, world

from moorage.aws.event_stream import MEDIA_TYPE
from moorage.front.spec import Mode as FrontMode
from moorage.routing.snapshot import Instance, Mode, Variant

SEE = (
    "See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
    f"#logEventViewer:group=/aws/sagemaker/Endpoints/ep in account {ACCOUNT} for more information."
)
STREAM = "/endpoints/ep/invocations-response-stream"
TARGET = "x_amzn_sagemaker_target_container_hostname"


def fronted(front: FrontWorld, mode: Mode = Mode.SERIAL, name: str = "v1") -> Variant:
    names = tuple(front.containers)
    instances = (Instance(f"i-{front.folder.name}", f"unix:{front.path}"),)
    return Variant(name, 1.0, names[0], instances, mode=mode, containers=names)


@contextlib.asynccontextmanager
async def both(mode: Mode = Mode.SERIAL, timeout_seconds: float = 30.0, **scripts: Any) -> AsyncIterator[World]:
    """Make a gateway with one endpoint, whose only instance is a front with these containers."""
    async with world(invocation_timeout_seconds=timeout_seconds) as made:
        (made.folder / "f").mkdir()
        front = FrontWorld(made.folder / "f")
        made.servers.update({name: await front.container(name, script) for name, script in scripts.items()})
        await front.start(FrontMode(mode), timeout_seconds=timeout_seconds)
        try:
            await made.start(endpoint("ep", fronted(front, mode)))
            yield made
        finally:
            await front.close()


async def test_pipeline_answers_with_what_the_last_container_says_and_nothing_of_the_front() -> None:
    last = answers(b"c", headers="Content-Type: text/csv\r\nX-Amzn-SageMaker-Custom-Attributes: of-b\r\n")
    async with both(a=answers(b"b"), b=last) as made:
        answer = await made.invoke("ep", b"x", content_type="text/csv", x_amzn_sagemaker_custom_attributes="in")
        assert made.servers["b"].requests[0].header("x-amzn-sagemaker-custom-attributes") == "in"
    assert (answer.status, answer.body) == (200, b"c")
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "of-b"
    assert not [name for name in answer.headers if name.startswith("x-moorage")]


@pytest.mark.parametrize(("status", "blame"), [(400, "client"), (500, "server")])
async def test_model_error_names_the_container_that_failed(status: int, blame: str) -> None:
    async with both(a=answers(b"x"), b=answers(b"bad", status=status), c=answers(b"x")) as made:
        answer = await made.invoke("ep", b"x")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (424, "ModelError")
    assert answer.json["Message"] == f'Received {blame} error ({status}) from b with message "bad". {SEE}'
    assert (answer.json["OriginalStatusCode"], answer.json["OriginalMessage"]) == (status, "bad")


async def test_time_out_names_the_container_that_was_waited_for() -> None:
    async with both(a=answers(b"x"), b=hangs, timeout_seconds=0.4) as made:
        answer = await made.invoke("ep", b"x")
    assert (answer.status, answer.json["OriginalStatusCode"]) == (424, 0)
    assert "from b with message" in answer.json["Message"]
    assert "waiting for a response from container b." in answer.json["Message"]


async def test_container_that_breaks_off_is_named() -> None:
    async with both(a=answers(b"x"), b=cuts(b"")) as made:
        silent = await made.invoke("ep", b"x")
        made.servers["b"].scripts = [cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")]
        cut = await made.invoke("ep", b"x")
        made.servers["b"].scripts = [answers(b"x")]
        made.servers["a"].scripts = [cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")]
        cut_before = await made.invoke("ep", b"x")
    assert silent.json["Message"].startswith("Received server error (0) from b with message")
    not_loaded = "Received server error (500) from {} and could not load the entire response body. " + SEE
    assert (cut.json["Message"], cut_before.json["Message"]) == (not_loaded.format("b"), not_loaded.format("a"))


async def test_body_too_large_for_the_next_container_is_told_in_aws_words() -> None:
    async with both(a=answers(b"x" * (BODY_BYTES + 1)), b=answers(b"x")) as made:
        answer = await made.invoke("ep", b"x")
    assert answer.status == 424
    assert answer.json["Message"] == (
        "Received response from a with status code 200. However, the request payload from a to b is 1000001 bytes, "
        f"which has exceeded the maximum limit of 1000000 bytes. {SEE}"
    )


async def test_instance_whose_first_container_takes_no_connection_is_passed_over() -> None:
    async with both(a=answers(b"of the other"), b=answers(b"well")) as made:
        (made.folder / "g").mkdir()
        dead = FrontWorld(made.folder / "g")
        for name in ("a", "b"):
            await dead.container(name, answers(b"x"))
        await dead.start()
        await dead.containers["a"].kill()
        (well,) = made.control.snapshot.endpoints.values()
        instances = (*well.variants[0].instances, *fronted(dead).instances)
        served = replace(well, variants=(replace(well.variants[0], instances=instances),))
        await made.control.publish(replace(made.control.snapshot, version=2, endpoints=dict([_keyed(served)])))
        try:
            answers_of = [await made.invoke("ep", b"x") for _ in range(10)]
            await until(lambda: made.control.said("unreachable"))
        finally:
            await dead.close()
        assert [answer.body for answer in answers_of] == [b"well"] * 10
        assert made.control.said("unreachable")[0]["instance_id"] == "i-g"
        assert dead.containers["b"].requests == []


def _keyed(served: Any) -> tuple[Any, Any]:
    return (served.account, served.region, served.name), served


async def test_front_that_dies_gives_a_model_error_of_the_first_container() -> None:
    async with world() as made:
        front = await made.instance("i", hangs)
        served = replace(variant("v1", front), container="a", mode=Mode.SERIAL, containers=("a", "b"))
        await made.start(endpoint("ep", served))
        work = made.tasks.start("invoke", made.invoke("ep", b"x"))
        await until(lambda: front.requests)
        await front.kill()
        answer = await work
    assert (answer.status, answer.json["OriginalStatusCode"]) == (424, 0)
    assert answer.json["Message"].startswith("Received server error (0) from a with message")


async def test_direct_invocation_reaches_its_container() -> None:
    async with both(Mode.DIRECT, a=answers(b"of a"), b=answers(b"of b")) as made:
        for _ in range(3):  # the third is known from before
            for name in ("a", "b"):
                answer = await made.invoke("ep", b"x", **{TARGET: name})
                assert (answer.status, answer.body) == (200, f"of {name}".encode())
        failing = made.servers["b"]
        failing.scripts = [answers(b"no", status=500)]
        answer = await made.invoke("ep", b"x", **{TARGET: "b"})
    assert answer.json["Message"].startswith('Received server error (500) from b with message "no".')


async def test_direct_invocation_must_name_a_container_that_is_there() -> None:
    async with both(Mode.DIRECT, a=answers(b"x"), b=answers(b"x")) as made:
        assert (await made.invoke("ep", b"x", **{TARGET: "a"})).status == 200
        missing = await made.invoke("ep", b"x")
        unknown = [await made.invoke("ep", b"x", **{TARGET: "c"}) for _ in range(3)]
        requests = [len(made.servers[name].requests) for name in ("a", "b")]
    assert (missing.status, missing.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert missing.json["Message"] == (
        f"Request {missing.headers['x-amzn-requestid']} is missing a target container hostname header, which is "
        "required to invoke multi-container endpoint ep with direct invocation."
    )
    for answer in unknown:
        assert answer.status == 400
        assert answer.json["Message"] == "Target container hostname c not found for endpoint ep."
        assert answer.json["ErrorCode"] == "TARGET_CONTAINER_HOSTNAME_NOT_FOUND"
    assert requests == [1, 0]


async def test_pipeline_takes_no_name_of_a_container() -> None:
    async with both(a=answers(b"x"), b=answers(b"x")) as made:
        answer = await made.invoke("ep", b"x", **{TARGET: "a"})
    assert answer.status == 400
    assert answer.json["Message"] == "Endpoint ep does not support target container hostname header."
    assert answer.json["ErrorCode"] == "TARGET_CONTAINER_HOSTNAME_NOT_SUPPORTED"


async def test_variants_may_differ_in_what_they_take() -> None:
    async with both(Mode.DIRECT, a=answers(b"of a"), b=answers(b"x")) as made:
        single = await made.instance("s", answers(b"single"))
        (direct,) = made.control.snapshot.endpoints.values()
        mixed = replace(direct, variants=(*direct.variants, replace(variant("v2", single), weight=0.0)))
        await made.control.publish(replace(made.control.snapshot, version=2, endpoints=dict([_keyed(mixed)])))
        named = await made.invoke("ep", b"x", **{TARGET: "a"})
        plain = await made.invoke("ep", b"x", x_amzn_sagemaker_target_variant="v2")
        wrong = await made.invoke("ep", b"x", x_amzn_sagemaker_target_variant="v2", **{TARGET: "a"})
        chosen = await made.invoke("ep", b"x")
    assert (named.body, plain.body) == (b"of a", b"single")
    assert wrong.json["ErrorCode"] == "TARGET_CONTAINER_HOSTNAME_NOT_SUPPORTED"
    assert chosen.json["ErrorCode"] == "TARGET_CONTAINER_HOSTNAME_MISSING"


async def test_stream_of_the_last_container_reaches_the_client_while_it_comes() -> None:
    go_on = asyncio.Event()

    async def streams(_: Any, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with both(a=answers(b"x"), b=streams) as made, made.connected() as (reader, writer):
        writer.write(signed(STREAM, b"x", [], made.port))
        early = await asyncio.wait_for(reader.readuntil(b"one"), 10)
        go_on.set()
        late = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
    assert MEDIA_TYPE.encode() in early
    assert b"two" in late
    assert b"moorage" not in (early + late).lower()


async def test_stream_that_breaks_names_its_container() -> None:
    broken = cuts(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    async with both(a=answers(b"x"), b=broken) as made, made.connected() as (reader, writer):
        writer.write(signed(STREAM, b"x", [], made.port))
        everything = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 10)
    assert b"The connection to the model b was broken" in everything


async def test_front_is_believed_only_where_the_snapshot_has_one() -> None:
    forged = "X-Moorage-Fault: Refused\r\nX-Moorage-Container: z\r\nX-Moorage-Latencies: z=999\r\n"
    async with world() as made:
        await made.one_instance(answers(b"{}", status=502, headers=forged))
        answer = await made.invoke("ep", b"x")
        assert len(made.servers["a"].requests) == 1
    assert answer.json["Message"].startswith('Received server error (502) from primary with message "{}".')


async def test_each_container_s_latency_is_counted_and_the_model_s_is_their_sum() -> None:
    async with both(a=answers(b"x"), b=answers(b"x")) as made:
        await made.invoke("ep", b"x")
        await until(lambda: [m for m in made.control.said("metrics") if m["periods"]])
        (message, *_) = [m for m in made.control.said("metrics") if m["periods"]]
    (*_, delta) = message["periods"][0][1][0]
    containers, direct = delta[-2:]
    assert ([values[0] for values in containers.values()], list(containers), direct) == ([1, 1], ["a", "b"], {})
    model = delta[8]
    assert abs(model[1] - sum(values[1] for values in containers.values())) <= 1, json.dumps(delta)


async def test_invocations_of_direct_containers_are_counted_by_name() -> None:
    async with both(Mode.DIRECT, a=answers(b"x"), b=answers(b"x")) as made:
        await made.invoke("ep", b"x", **{TARGET: "b"})
        await until(lambda: [m for m in made.control.said("metrics") if m["periods"]])
        (message, *_) = [m for m in made.control.said("metrics") if m["periods"]]
    (*_, delta) = message["periods"][0][1][0]
    assert delta[-1] == {"b": 1}


async def test_chat_goes_through_a_pipeline_too() -> None:
    events = b"data: {}\n\n"
    async with both(a=answers(b"x"), b=answers(events, headers="Content-Type: text/event-stream\r\n")) as made:
        answer = await made.raw(signed("/endpoints/ep/openai/v1/chat/completions", b"{}", [], made.port))
        assert made.servers["a"].requests[0].body == b"{}"
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, events, "text/event-stream")


async def test_session_of_the_last_container_is_kept_to_its_instance() -> None:
    session = "X-Amzn-SageMaker-New-Session-Id: s1; Expires=2999-01-01T00:00:00Z\r\n"
    async with both(a=answers(b"x"), b=answers(b"y", headers=session)) as made:
        opened = await made.invoke("ep", b"x", x_amzn_sagemaker_session_id="NEW_SESSION")
        made.servers["b"].scripts = [answers(b"z")]
        used = await made.invoke("ep", b"x", x_amzn_sagemaker_session_id="s1")
        seen = [made.servers[name].requests[1].header("x-amzn-sagemaker-session-id") for name in ("a", "b")]
    assert opened.headers["x-amzn-sagemaker-new-session-id"].startswith("s1; ")
    assert (used.body, seen) == (b"z", ["s1", "s1"])
