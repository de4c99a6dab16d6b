import asyncio
import json
import time
from dataclasses import replace

import pytest
from tests.support.gateway import (
    ACCOUNT,
    KEY,
    Script,
    answers,
    cuts,
    endpoint,
    hangs,
    says,
    signed,
    snapshot,
    until,
    variant,
    world,
)

from moorage.aws.credentials import Credential
from moorage.routing.snapshot import Instance, Variant

SEE = (
    "See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
    f"#logEventViewer:group=/aws/sagemaker/Endpoints/ep in account {ACCOUNT} for more information."
)


async def test_answer_of_the_container_comes_back_with_the_variants_name() -> None:
    async with world() as made:
        await made.one_instance(answers(b"0.5", headers="Content-Type: text/csv\r\nX-Own: x\r\n"))
        answer = await made.invoke("ep", b"1,2", content_type="text/csv")
    assert (answer.status, answer.body) == (200, b"0.5")
    assert answer.headers["x-amzn-invoked-production-variant"] == "v1"
    assert answer.headers["content-type"] == "text/csv"
    assert len(answer.headers["x-amzn-requestid"]) == 36
    assert answer.headers["content-length"] == "3"
    assert "x-own" not in answer.headers
    assert "x-amzn-sagemaker-custom-attributes" not in answer.headers


async def test_container_sees_the_api_s_headers_and_no_others() -> None:
    async with world() as made:
        await made.one_instance(answers(b""))
        await made.invoke(
            "ep",
            b"body",
            content_type="text/csv",
            accept="a/b",
            x_amzn_sagemaker_custom_attributes="k=v",
            x_amzn_sagemaker_inference_id="id 1",
            x_amzn_sagemaker_prefix_aware_id="p",
            user_agent="me",
        )
        request = made.servers["a"].requests[0]
    assert (request.line, request.body) == ("POST /invocations HTTP/1.1", b"body")
    assert {name.lower(): value for name, value in request.headers} == {
        "host": "localhost",
        "content-type": "text/csv",
        "accept": "a/b",
        "x-amzn-sagemaker-custom-attributes": "k=v",
        "x-amzn-sagemaker-inference-id": "id 1",
        "content-length": "4",
    }


async def test_custom_attributes_come_back_when_the_container_sets_them() -> None:
    async with world() as made:
        await made.one_instance(answers(b"", headers="X-Amzn-SageMaker-Custom-Attributes: out\r\n"))
        answer = await made.invoke("ep", x_amzn_sagemaker_custom_attributes="in")
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "out"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_any_success_of_the_container_is_200(raw: bytes) -> None:
    async with world() as made:
        await made.one_instance(says(raw))
        answer = await made.invoke("ep")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "script",
    [
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n"),
        cuts(b"HTTP/1.1 200 OK\r\n\r\nabcde"),
        cuts(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde"),
    ],
    ids=["chunked", "until close", "HTTP/1.0"],
)
async def test_every_framing_of_the_container_is_read(script: Script) -> None:
    async with world() as made:
        await made.one_instance(script)
        answer = await made.invoke("ep")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"abcde", "5")


@pytest.mark.parametrize(
    ("status", "blame", "code"),
    [
        (400, "client", "CLIENT_ERROR_FROM_MODEL"),
        (404, "client", "CLIENT_ERROR_FROM_MODEL"),
        (500, "server", "INTERNAL_FAILURE_FROM_MODEL"),
        (503, "server", "INTERNAL_FAILURE_FROM_MODEL"),
        (302, "server", "INTERNAL_FAILURE_FROM_MODEL"),
    ],
)
async def test_error_of_the_container_is_a_model_error(status: int, blame: str, code: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b'no "good"', status))
        answer = await made.invoke("ep")
    assert answer.status == 424
    assert answer.headers["x-amzn-errortype"] == "ModelError"
    assert answer.json == {
        "ErrorCode": code,
        "LogStreamArn": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/ep",
        "Message": f'Received {blame} error ({status}) from primary with message "no "good"". {SEE}',
        "OriginalMessage": 'no "good"',
        "OriginalStatusCode": status,
    }


NO_RESPONSE = (
    'Received server error (0) from primary with message "Amazon SageMaker could not get a response from the ep '
    "endpoint. This can occur when CPU or memory utilization is high. To check your utilization, see Amazon "
    'CloudWatch. To fix this problem, use an instance type with more CPU capacity or memory.". ' + SEE
)
NOT_LOADED = f"Received server error (500) from primary and could not load the entire response body. {SEE}"


@pytest.mark.parametrize(
    ("script", "message", "status"),
    [
        (cuts(b""), NO_RESPONSE, 0),
        (cuts(b"HTTP/1.1 200"), NO_RESPONSE, 0),
        (says(b"nonsense\r\n\r\n"), NO_RESPONSE, 0),
        (says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), NO_RESPONSE, 0),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000), NO_RESPONSE, 0),
        (cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), NOT_LOADED, 500),
        (cuts(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nabc"), NOT_LOADED, 500),
        (cuts(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc"), NOT_LOADED, 500),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), NOT_LOADED, 500),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"), NOT_LOADED, 500),
        (cuts(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001), NOT_LOADED, 500),
    ],
    ids=[
        "closes",
        "closes in head",
        "garbage",
        "switches",
        "endless head",
        "closes in body",
        "closes in error",
        "closes in chunk",
        "bad chunk",
        "too large",
        "too large at last",
    ],
)
async def test_broken_answer_is_a_model_error_and_the_next_invocation_works(
    script: Script, message: str, status: int
) -> None:
    async with world(invocation_body_bytes=1000) as made:
        await made.one_instance(script, answers(b"fine"))
        answer = await made.invoke("ep")
        following = await made.invoke("ep")
    assert (answer.status, answer.json["Message"], answer.json["OriginalStatusCode"]) == (424, message, status)
    assert following.body == b"fine"
    assert len(made.servers["a"].requests) == 2


async def test_slow_container_is_timed_out_and_its_connection_closed() -> None:
    async with world(invocation_timeout_seconds=0.3) as made:
        await made.one_instance(hangs)
        began = time.monotonic()
        answer = await made.invoke("ep")
        assert 0.25 < time.monotonic() - began < 3
        await until(lambda: made.servers["a"].open_connections == 0)
    assert (answer.status, answer.json["OriginalStatusCode"]) == (424, 0)
    assert "Your invocation timed out while waiting for a response from container primary." in answer.json["Message"]


async def test_client_that_goes_stops_the_container_s_work() -> None:
    async with world() as made:
        await made.one_instance(hangs)
        async with made.connected() as (_, writer):
            writer.write(made.invocation("ep"))
            await until(lambda: made.servers["a"].requests)
        await until(lambda: made.servers["a"].open_connections == 0)


async def test_connections_to_instances_are_kept() -> None:
    async with world() as made:
        await made.one_instance(answers(b"x"))
        for _ in range(5):
            await made.invoke("ep")
        assert (made.servers["a"].connections, len(made.servers["a"].requests)) == (1, 5)


async def test_connection_that_the_container_closed_meanwhile_is_not_used() -> None:
    async with world() as made:
        await made.one_instance(cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"))
        statuses = [(await made.invoke("ep")).status for _ in range(10)]
    assert statuses == [200] * 10


async def test_connection_with_bytes_nobody_asked_for_is_not_used_again() -> None:
    async with world() as made:
        poisoned = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
        await made.one_instance(says(poisoned), answers(b"y"))
        bodies = [(await made.invoke("ep")).body for _ in range(2)]
    assert bodies == [b"x", b"y"]
    assert made.servers["a"].connections == 2


async def test_dead_instance_is_passed_over_at_once() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first, second)))
        for _ in range(10):
            await made.invoke("ep")
        await first.kill()
        bodies = [(await made.invoke("ep")).body for _ in range(50)]
        assert bodies == [b"b"] * 50
        await until(lambda: {"op": "unreachable", "instance_id": "i-a"} in made.control.messages)


async def test_dead_variant_leaves_its_share_to_the_others() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first), variant("v2", second)))
        await first.kill()
        seen = [(await made.invoke("ep")).headers["x-amzn-invoked-production-variant"] for _ in range(20)]
    assert seen == ["v2"] * 20


async def test_only_the_invocation_in_flight_on_the_killed_instance_fails() -> None:
    async with world() as made:
        first, second = await made.instance("a", hangs), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first), variant("v2", second, weight=0)))
        async with made.connected() as (reader, writer):
            writer.write(made.invocation("ep"))
            await until(lambda: first.requests)
            await made.control.publish(snapshot(2, endpoint("ep", variant("v1", first, second))))
            await first.kill()
            status = (await reader.readline()).split()[1]
        others = [(await made.invoke("ep")).body for _ in range(20)]
    assert status == b"424"
    assert others == [b"b"] * 20


async def test_all_instances_dead_is_a_model_error() -> None:
    async with world() as made:
        await made.one_instance(answers(b"a"))
        await made.servers["a"].kill()
        answer = await made.invoke("ep")
    assert (answer.status, answer.json["Message"]) == (424, NO_RESPONSE)


async def test_address_that_is_none_is_a_model_error() -> None:
    broken = Variant("v1", 1.0, "primary", (Instance("i-a", "nowhere"),))
    async with world() as made:
        await made.start(endpoint("ep", broken))
        answer = await made.invoke("ep")
    assert (answer.status, answer.json["Message"]) == (424, NO_RESPONSE)


async def test_instance_that_comes_back_is_used_again() -> None:
    async with world() as made:
        await made.one_instance(answers(b"a"))
        await made.servers["a"].kill()
        await made.invoke("ep")
        await made.servers["a"].start()
        answer = await made.invoke("ep")
    assert answer.body == b"a"


async def test_target_variant_is_served_whatever_its_weight() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first), variant("v2", second, weight=0)))
        targeted = await made.invoke("ep", x_amzn_sagemaker_target_variant="v2")
        others = {(await made.invoke("ep")).body for _ in range(20)}
    assert (targeted.body, targeted.headers["x-amzn-invoked-production-variant"]) == (b"b", "v2")
    assert others == {b"a"}


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("target-variant", "none", "Variant none not found for endpoint ep."),
        (
            "target-model",
            "m.tar.gz",
            "Endpoint ep is not a multi-model endpoint and does not support target model header.",
        ),
        ("target-container-hostname", "c", "Endpoint ep does not support target container hostname header."),
        ("inference-component", "ic", "Inference Component ic not found for endpoint ep."),
        ("session-id", "abc", "Session abc not found or expired for endpoint ep."),
        (
            "enable-explanations",
            "`true`",
            "Endpoint ep does not support EnableExplanations: Moorage does not have it yet.",
        ),
        (
            "target-variant",
            "-x",
            "1 validation error detected: Value '-x' at 'targetVariant' failed to satisfy constraint: Member must",
        ),
    ],
)
async def test_header_that_cannot_be_honoured_is_refused(header: str, value: str, message: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b""))
        answer = await made.raw(
            signed("/endpoints/ep/invocations", b"", [(f"x-amzn-sagemaker-{header}", value)], made.port)
        )
        assert not made.servers["a"].requests
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert answer.json["Message"].startswith(message)


async def test_unknown_endpoint_is_named_as_the_caller_spelled_it() -> None:
    async with world() as made:
        await made.one_instance(answers(b""))
        answer = await made.invoke("Ep")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert answer.json["Message"] == f"Endpoint Ep of account {ACCOUNT} not found."


async def test_endpoint_of_another_account_is_not_found() -> None:
    other = Credential("AKIAOTHEROTHEROTHER0", "secret", "111111111111", "other")
    async with world() as made:
        await made.one_instance(answers(b""))
        known = made.control.snapshot
        await made.control.publish(replace(known, version=2, keys={**known.keys, other.access_key_id: other}))
        answer = await made.raw(signed("/endpoints/ep/invocations", b"", [], made.port, key=other))
    assert answer.json["Message"] == "Endpoint ep of account 111111111111 not found."


async def test_variant_without_instance_is_unavailable() -> None:
    async with world() as made:
        await made.start(endpoint("ep", variant("v1")))
        answer = await made.invoke("ep")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")


async def test_all_weights_zero_is_a_validation_error() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b""))
        await made.start(endpoint("ep", variant("v1", server, weight=0), variant("v2", server, weight=0)))
        answer = await made.invoke("ep")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")


async def test_only_variant_is_served_with_a_weight_of_zero() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"a"))
        await made.start(endpoint("ep", variant("v1", server, weight=0)))
        answer = await made.invoke("ep")
    assert answer.body == b"a"


def tampered(request: bytes) -> bytes:
    return request[:-1] + b"9"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda port: tampered(signed("/endpoints/ep/invocations", b"12", [], port)), "InvalidSignatureException"),
        (
            lambda port: signed("/endpoints/ep/invocations", b"", [], port, at=time.time() - 400),
            "InvalidSignatureException",
        ),
        (
            lambda port: signed(
                "/endpoints/ep/invocations", b"", [], port, key=replace(KEY, access_key_id="AKIANOBODY")
            ),
            "UnrecognizedClientException",
        ),
        (
            lambda port: signed("/endpoints/ep/invocations", b"", [], port, service="monitoring"),
            "InvalidSignatureException",
        ),
        (
            lambda _: b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "MissingAuthenticationTokenException",
        ),
    ],
    ids=["tampered", "old", "unknown key", "other service", "unsigned"],
)
async def test_stranger_is_refused_with_403(make: object, code: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b""))
        answer = await made.raw(make(made.port))  # type: ignore[operator]
        assert not made.servers["a"].requests
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, code)
    assert answer.json["Message"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/endpoints/ep/async-invocations", 400, "ValidationError"),
        ("/endpoints/ep/nothing", 404, "UnknownOperationException"),
        ("/endpoints/", 404, "UnknownOperationException"),
    ],
)
async def test_operation_that_is_not_there_is_a_clear_error(path: str, status: int, code: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b""))
        answer = await made.raw(signed(path, b"", [], made.port))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, code)
    assert answer.json["Message"]


async def test_body_up_to_the_limit_arrives_whole_and_beyond_it_is_refused() -> None:
    async with world(invocation_body_bytes=3_000_000) as made:
        await made.one_instance(answers(b"ok"))
        fits, too_large = b"x" * 3_000_000, b"x" * 3_000_001
        assert (await made.invoke("ep", fits)).body == b"ok"
        assert made.servers["a"].requests[0].body == fits
        answer = await made.invoke("ep", too_large)
    assert answer.status == 400
    assert answer.json["Message"] == f"Request {answer.headers['x-amzn-requestid']} has oversize body."


async def test_far_too_large_body_is_refused_while_it_comes() -> None:
    async with world(invocation_body_bytes=1000) as made:
        await made.one_instance(answers(b"ok"))
        request = made.invocation("ep", b"x" * 2_000_000)
        answer = await made.raw(request)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "has oversize body." in answer.json["Message"]


async def test_chunked_body_is_taken() -> None:
    async with world() as made:
        await made.one_instance(answers(b"ok"))
        request = made.invocation("ep", b"abcde").replace(b"content-length: 5", b"transfer-encoding: chunked")
        answer = await made.raw(request.replace(b"abcde", b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"))
        assert (answer.status, made.servers["a"].requests[0].body) == (200, b"abcde")


async def test_body_is_asked_for_when_the_client_waits_for_that() -> None:
    async with world() as made:
        await made.one_instance(answers(b"ok"))
        head, body = (
            made.invocation("ep", b"abc").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")[:-3],
            b"abc",
        )
        async with made.connected() as (reader, writer):
            writer.write(head)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_gateway_without_a_snapshot_says_that_it_is_starting() -> None:
    async with world() as made:
        await made.start_gateway()
        answer = await made.invoke("ep")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")


async def test_gateway_starts_from_the_snapshot_on_disk() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"a"))
        last = snapshot(7, endpoint("ep", variant("v1", server)))
        (made.folder / "data" / "snapshot.json").write_text(json.dumps(last.to_message()))
        await made.start_gateway()
        answer = await made.invoke("ep")
    assert answer.body == b"a"


async def test_link_is_made_again_and_says_what_was_drained() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first)))
        await made.control.publish(snapshot(2, endpoint("ep", variant("v1", second))))
        await until(lambda: made.control.said("drained"))
        await made.control.links[0].close()
        await until(lambda: len(made.control.said("hello")) == 2 and len(made.control.said("drained")) == 2)
    assert made.control.said("drained")[1]["instance_ids"] == ["i-a"]


async def test_instance_is_drained_when_its_last_answer_is_complete() -> None:
    answered = asyncio.Event()

    async def waits(_: object, __: object, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with world() as made:
        first, second = await made.instance("a", waits), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first)))
        invocation = made.tasks.start("invocation", made.invoke("ep"))
        await until(lambda: first.requests)
        await made.control.publish(snapshot(2, endpoint("ep", variant("v1", second))))
        assert (await made.invoke("ep")).body == b"b"
        assert not made.control.said("drained")
        answered.set()
        assert (await invocation).status == 200
        await until(lambda: made.control.said("drained") == [{"op": "drained", "instance_ids": ["i-a"]}])
        await until(lambda: first.open_connections == 0)


async def test_unusable_snapshot_leaves_the_present_one() -> None:
    async with world() as made:
        await made.one_instance(answers(b"a"))
        await made.control.links[0].send({"op": "snapshot", "snapshot": {"version": 2}})
        await made.control.publish(replace(made.control.snapshot, version=3))
        answer = await made.invoke("ep")
    assert answer.body == b"a"


async def test_weights_changed_under_load_lose_nothing() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first), variant("v2", second)))

        async def load() -> list[int]:
            return [(await made.invoke("ep")).status for _ in range(40)]

        loads = [made.tasks.start("load", load()) for _ in range(4)]
        for version in range(2, 12):
            weights = (version, 1) if version % 2 else (0, 1)
            await made.control.publish(
                snapshot(
                    version,
                    endpoint("ep", variant("v1", first, weight=weights[0]), variant("v2", second, weight=weights[1])),
                )
            )
        statuses = [status for done in await asyncio.gather(*loads) for status in done]
    assert statuses == [200] * 160


async def test_stopping_gateway_finishes_what_is_in_flight() -> None:
    answered = asyncio.Event()

    async def waits(_: object, __: object, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")

    async with world() as made:
        await made.one_instance(waits)
        async with made.connected() as (idle, _):
            invocation = made.tasks.start("invocation", made.invoke("ep"))
            await until(lambda: made.servers["a"].requests)
            stopped = made.tasks.start("stop", made.stop_gateway())
            assert await asyncio.wait_for(idle.read(), 5) == b""
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", made.port)
            answered.set()
            answer = await invocation
            await stopped
    assert (answer.body, answer.headers["connection"]) == (b"last", "close")
