"""A gateway that knows an invocation answers every variation of it as one that has never seen any."""

import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.gateway import KEY, World, answers, endpoint, signed, snapshot, variant, world

FIELDS = [("content-type", "text/csv"), ("user-agent", "x"), ("x-amzn-sagemaker-inference-id", "id")]
PATH = "/endpoints/ep/invocations"
ASKED_BEFORE = 3
"""The first is read the long way, the second is learned, from the third on it is known."""


def request(made: World, body: bytes = b"1,2", **options: object) -> bytes:
    path = str(options.pop("path", PATH))
    fields = options.pop("fields", FIELDS)
    return signed(path, body, fields, made.port, **options)  # type: ignore[arg-type]


DATE = rb"x-amz-date: .{15}"

Change = Callable[[World], bytes]

CHANGES: dict[str, Change] = {
    "nothing": request,
    "another body": lambda made: request(made, b"3,4"),
    "another time": lambda made: request(made, at=time.time() - 100),
    "another value": lambda made: request(made, fields=[*FIELDS[:2], (FIELDS[2][0], "other")]),
    "a body that was not signed": lambda made: request(made).replace(b"1,2", b"1,3"),
    "a signature with another digit": lambda made: re.sub(rb"Signature=.", b"Signature=x", request(made)),
    "a signature in capitals": lambda made: re.sub(
        rb"(?<=Signature=)[0-9a-f]+", lambda found: found[0].upper(), request(made)
    ),
    "a signature with something behind": lambda made: re.sub(rb"(Signature=[0-9a-f]+)", rb"\1, x=y", request(made)),
    "a value that was not signed": lambda made: request(made).replace(b"text/csv", b"text/css"),
    "a date that was not signed": lambda made: re.sub(DATE, b"x-amz-date: 20260101T000000", request(made)),
    "a date that is none": lambda made: re.sub(DATE, b"x-amz-date: 2026yesterdayxx", request(made)),
    "signed too early": lambda made: request(made, at=time.time() - 400),
    "signed too late": lambda made: request(made, at=time.time() + 400),
    "another secret": lambda made: request(made, key=replace(KEY, secret_access_key="other")),
    "another key": lambda made: request(made, key=replace(KEY, access_key_id="AKIAOTHEROTHEROTHER0")),
    "another service": lambda made: request(made, service="s4"),
    "another endpoint": lambda made: request(made, path="/endpoints/none/invocations"),
    "spaces in a value": lambda made: request(made, fields=[*FIELDS[:2], (FIELDS[2][0], "a  b")]),
    "a value that breaks a constraint": lambda made: request(made, fields=[*FIELDS[:2], (FIELDS[2][0], "x" * 65)]),
    "a header more": lambda made: request(made, fields=[*FIELDS, ("x-amzn-sagemaker-target-variant", "none")]),
    "an unsigned header of AWS": lambda made: request(made).replace(b"user-agent: x", b"x-amz-meta: x"),
    "a header that is not signed any more": lambda made: request(made).replace(b";user-agent", b""),
}  # fmt: skip


async def ask(made: World, change: Change, before: int) -> tuple[object, ...]:
    """Give what a client is told, without what differs each time, and what the container was sent."""
    instance = made.servers["a"]
    for _ in range(before):
        assert (await made.raw(request(made))).status == 200
    told = await made.raw(change(made))
    headers = {name: value for name, value in told.headers.items() if name not in {"date", "x-amzn-requestid"}}
    body = re.sub(rb"[0-9]{8}T[0-9]{6}Z|127.0.0.1:[0-9]+|Signature=\w+", b"?", told.body)
    seen = [(one.line, one.headers, one.body) for one in instance.requests[before:]]
    return told.status, {**headers, "content-length": ""}, body, seen


async def fresh(change: Change, before: int) -> tuple[object, ...]:
    async with world() as made:
        server = await made.instance("a", answers(b"0.5", headers="Content-Type: text/csv\r\n"))
        await made.start(endpoint("ep", variant("v1", server)))
        return await ask(made, change, before)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_known_invocation_is_answered_like_an_unknown_one(change: Change) -> None:
    assert await fresh(change, ASKED_BEFORE) == await fresh(change, 0)


async def test_a_key_that_is_gone_is_not_known_any_more() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"0.5"))
        await made.start(endpoint("ep", variant("v1", server)))
        for _ in range(ASKED_BEFORE):
            assert (await made.raw(request(made))).status == 200
        await made.control.publish(replace(snapshot(2, endpoint("ep", variant("v1", server))), keys={}))
        answer = await made.raw(request(made))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "UnrecognizedClientException")


async def test_policies_are_asked_each_time() -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1000))
    policy = (
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "*", '
        f'"Resource": "*", "Condition": {{"DateLessThan": {{"aws:CurrentTime": "{soon}"}}}}}}]}}'
    )
    key = replace(KEY, policies=(policy,))
    async with world() as made:
        server = await made.instance("a", answers(b"0.5"))
        await made.start(endpoint("ep", variant("v1", server)))
        await made.control.publish(
            replace(snapshot(2, endpoint("ep", variant("v1", server))), keys={key.access_key_id: key})
        )
        assert [(await made.raw(request(made))).status for _ in range(ASKED_BEFORE)] == [200] * ASKED_BEFORE
        denied = replace(key, policies=(policy.replace("DateLessThan", "DateGreaterThan"),))
        await made.control.publish(
            replace(snapshot(3, endpoint("ep", variant("v1", server))), keys={key.access_key_id: denied})
        )
        assert (await made.raw(request(made))).status == 403
