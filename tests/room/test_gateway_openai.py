"""The OpenAI-compatible path: tokens and signatures, answers as the container gives them, errors in the right form."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.support.bearer import PREFIX, make_token
from tests.support.gateway import (
    ACCOUNT,
    KEY,
    Answer,
    Script,
    World,
    answers,
    cuts,
    endpoint,
    hangs,
    read_answer,
    signed,
    snapshot,
    variant,
    world,
)
from tests.support.streams import END, Stepwise, chunk, read_chunk, read_head, read_rest, streams

from moorage.aws.credentials import Credential, Session
from moorage.iam.sessions import make_token as make_session_token

PATH = "/endpoints/ep/openai/v1/chat/completions"
BODY = b'{"model":"","messages":[{"role":"user","content":"hi"}]}'
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def asks(made: World, token: str | None = None, *, path: str = PATH, **headers: str) -> bytes:
    """Make the bytes of a request with a bearer token, the tester's own unless another is given."""
    fields = {
        "host": f"127.0.0.1:{made.port}",
        "authorization": f"Bearer {token or make_token(KEY)}",
        "content-type": "application/json",
        "accept": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}content-length: {len(BODY)}\r\n\r\n".encode() + BODY


async def chat(made: World, token: str | None = None, **more: Any) -> Answer:
    return await made.raw(asks(made, token, **more))


async def test_answer_of_the_container_comes_back_as_it_is() -> None:
    async with world() as made:
        await made.one_instance(answers(b'{"id":"x"}', headers="Content-Type: application/json\r\n"))
        answer = await chat(made, user_agent="OpenAI/Python")
        request = made.servers["a"].requests[0]
    assert (answer.status, answer.body) == (200, b'{"id":"x"}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["x-amzn-invoked-production-variant"] == "v1"
    assert (request.line, request.body) == ("POST /invocations HTTP/1.1", BODY)
    assert {name.lower() for name, _ in request.headers} == {"host", "content-type", "accept", "content-length"}


async def test_server_sent_events_come_as_they_are_and_each_before_the_next_is_made() -> None:
    container = Stepwise()
    async with world() as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(EVENTS + chunk(b'data: {"a":1}\n\n'))
            head = await read_head(reader)
            first = await read_chunk(reader)
            await container.send(chunk(b"data: [DONE]\n\n") + END)
            rest = await read_rest(reader)
    assert b"Content-Type: text/event-stream; charset=utf-8\r\n" in head
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert [first, rest] == [b'data: {"a":1}\n\n', b"data: [DONE]\n\n"]


async def test_signature_is_taken_in_place_of_a_token() -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await made.raw(signed(PATH, BODY, [("content-type", "application/json")], made.port))
    assert (answer.status, answer.body) == (200, b"{}")


async def test_temporary_credentials_make_tokens() -> None:
    now = time.time()
    secret, session_token = make_session_token("own", "ASIASESSION", Session(KEY.access_key_id, now, now + 900))
    temporary = Credential("ASIASESSION", secret, ACCOUNT, "tester")
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        await made.control.publish(replace(made.control.snapshot, version=2, token_secret="own"))
        good = await chat(made, make_token(temporary, session_token))
        bad = await chat(made, make_token(replace(temporary, secret_access_key="guessed"), session_token))
    assert (good.status, bad.status) == (200, 401)


@pytest.mark.parametrize(
    "token",
    [
        "sk-proj-123",
        PREFIX + "AAAA",
        make_token(replace(KEY, secret_access_key="guessed")),
        make_token(replace(KEY, access_key_id="AKIANOBODY")),
        make_token(KEY, service="bedrock"),
        make_token(KEY, expires=43_201),
        make_token(KEY)[:-8] + "AAAA",
    ],
    ids=["openai's", "nonsense", "wrong secret", "unknown key", "other service", "too long", "cut"],
)
async def test_bad_token_is_refused_in_openai_s_form_and_the_container_not_called(token: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await chat(made, token)
        assert not made.servers["a"].requests
    error = answer.json["error"]
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    assert token not in answer.body.decode()


async def test_expired_token_is_refused() -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        made.clock.now = lambda: time.time() + 61  # type: ignore[method-assign]
        answer = await chat(made, make_token(KEY, expires=60))
        assert not made.servers["a"].requests
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert "expired" in answer.json["error"]["message"]


async def test_nobody_is_told_that_a_key_is_missing() -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await made.raw(f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert "You did not provide an API key" in answer.json["error"]["message"]


async def test_token_for_another_region_than_the_endpoint_s_is_refused() -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await chat(made, make_token(KEY, region="eu-west-1"))
        assert not made.servers["a"].requests
    assert answer.status == 403
    assert answer.json["error"]["message"] == (
        "The bearer token is for the region eu-west-1; endpoint ep is in us-east-1."
    )


async def test_changed_signature_is_refused_in_openai_s_form() -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await made.raw(signed(PATH, b"12", [], made.port)[:-1] + b"3")
    assert (answer.status, answer.json["error"]["code"]) == (403, "invalid_api_key")
    assert answer.headers["x-amzn-errortype"] == "InvalidSignatureException"


def policies(*actions: str) -> tuple[str, ...]:
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/ep"
    statements = [
        {"Effect": "Allow", "Action": action, "Resource": "*" if "Token" in action else arn} for action in actions
    ]
    return (json.dumps({"Version": "2012-10-17", "Statement": statements}),)


@pytest.mark.parametrize(
    ("actions", "denied", "by_signature"),
    [
        (("sagemaker:CallWithBearerToken", "sagemaker:InvokeEndpoint"), None, 200),
        (("sagemaker:InvokeEndpoint",), "sagemaker:CallWithBearerToken on resource: *", 200),
        (("sagemaker:CallWithBearerToken",), "sagemaker:InvokeEndpoint on resource: arn:aws:sagemaker:", 403),
    ],
)
async def test_a_token_needs_both_permissions_and_a_signature_one(
    actions: tuple[str, ...], denied: str | None, by_signature: int
) -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        limited = replace(KEY, policies=policies(*actions))
        known = made.control.snapshot
        await made.control.publish(replace(known, version=2, keys={KEY.access_key_id: limited}))
        answer = await chat(made)
        signed_one = await made.raw(signed(PATH, BODY, [], made.port))
    assert signed_one.status == by_signature
    assert answer.status == (200 if denied is None else 403)
    if denied is not None:
        assert answer.json["error"]["code"] == "insufficient_permissions"
        assert f"is not authorized to perform: {denied}" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/endpoints/ep/openai",
        "/endpoints/ep/openai/v1/responses",
        "/endpoints/ep/openai/v1/models",
        "/endpoints/ep/openai/v1/chat/completions/x",
        "/endpoints/ep/inference-components/ic/openai/v1/embeddings",
    ],
)
async def test_other_paths_of_openai_are_a_clear_404(path: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await chat(made, path=path)
        assert not made.servers["a"].requests
    assert (answer.status, answer.json["error"]["type"]) == (404, "invalid_request_error")
    assert path.partition("/openai")[2] in answer.json["error"]["message"]
    assert "POST /openai/v1/chat/completions" in answer.json["error"]["message"]


async def test_other_methods_are_a_clear_404() -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await made.raw(asks(made).replace(b"POST ", b"GET "))
    assert (answer.status, "'GET /openai/v1/chat/completions'" in answer.json["error"]["message"]) == (404, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"path": "/endpoints/ep/inference-components/ic/openai/v1/chat/completions"},
            "Inference Component ic not found for endpoint ep.",
        ),
        (
            {"x_amzn_sagemaker_inference_component": "ic"},
            "Inference Component ic not found for endpoint ep.",
        ),
        ({"path": PATH.replace("/ep/", "/none/")}, f"Endpoint none of account {ACCOUNT} not found."),
        ({"x_amzn_sagemaker_target_variant": "v9"}, "Variant v9 not found for endpoint ep."),
        (
            {"x_amzn_sagemaker_session_id": "abc"},
            "Session abc not found or expired for endpoint ep.",
        ),
    ],
    ids=["component in path", "component", "endpoint", "variant", "session"],
)
async def test_what_is_not_there_is_a_validation_error(more: dict[str, str], message: str) -> None:
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        answer = await chat(made, **more)
        assert not made.servers["a"].requests
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert answer.json["Message"] == message


@pytest.mark.parametrize(
    ("script", "original"),
    [
        (answers(b"no", 422), 422),
        (cuts(b""), 0),
        (cuts(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"), 500),
        (cuts(EVENTS), 500),
    ],
    ids=["422", "closes", "closes in body", "closes before an event"],
)
async def test_error_of_the_container_is_the_runtime_s_model_error(script: Script, original: int) -> None:
    async with world() as made:
        await made.one_instance(script)
        answer = await chat(made)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (424, "ModelError")
    assert answer.json["OriginalStatusCode"] == original


async def test_container_that_does_not_answer_is_timed_out() -> None:
    async with world(invocation_timeout_seconds=0.3) as made:
        await made.one_instance(hangs)
        answer = await chat(made)
    assert (answer.status, answer.json["OriginalStatusCode"]) == (424, 0)


@pytest.mark.parametrize("event", [b"data: 1\n\n", b"data: 1\r\n\r\n"])
async def test_stream_that_breaks_between_events_ends_with_an_error_event(event: bytes) -> None:
    async with world() as made:
        script = streams(event[:3], event[3:], head=EVENTS, end=b"", closes=True)
        await made.one_instance(script, answers(b"{}"))
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            answer = await read_answer(reader)
            writer.write(asks(made))
            following = await read_answer(reader)
    assert answer.body.startswith(event + b"data: {")
    error = json.loads(answer.body.removeprefix(event).removeprefix(b"data: "))["error"]
    assert error == {
        "message": "The connection to the model primary was broken before the response was complete.",
        "type": "server_error",
        "param": None,
        "code": "StreamBroken",
    }
    assert following.body == b"{}"


async def test_stream_that_breaks_inside_of_an_event_is_cut_off_before_its_end() -> None:
    async with world() as made:
        await made.one_instance(streams(b'data: {"half', head=EVENTS, end=b"", closes=True))
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await read_head(reader)
            assert await read_chunk(reader) == b'data: {"half'
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_stream_that_is_not_complete_in_time_ends_with_an_error_event() -> None:
    async with world(stream_timeout_seconds=0.3) as made:
        await made.one_instance(streams(b"data: 1\n\n", head=EVENTS, end=b""))
        answer = await chat(made)
    assert b'"code":"ModelInvocationTimeExceeded"' in answer.body


async def test_target_variant_is_served() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", first), variant("v2", second, weight=0)))
        answer = await chat(made, x_amzn_sagemaker_target_variant="v2")
    assert answer.body == b"b"


async def test_endpoint_of_another_account_is_not_found() -> None:
    other = Credential("AKIAOTHEROTHEROTHER0", "secret", "111111111111", "other")
    async with world() as made:
        await made.one_instance(answers(b"{}"))
        known = snapshot(2, *made.control.snapshot.endpoints.values())
        await made.control.publish(replace(known, keys={**known.keys, other.access_key_id: other}))
        answer = await chat(made, make_token(other, region="eu-west-1"))
    assert answer.json["Message"] == "Endpoint ep of account 111111111111 not found."
