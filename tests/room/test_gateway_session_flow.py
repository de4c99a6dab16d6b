"""Sticky sessions through a whole gateway, asked by boto3: opened, gone on with, closed, expired, lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.support.gateway import KEY, REGION, FakeServer, Request, World, endpoint, snapshot, variant, world

NEVER = "Expires=2999-01-01T00:00:00Z"
LONG_AGO = "Expires=2001-01-01T00:00:00Z"


@dataclass
class Container:
    """A container that does sessions, as AWS's do."""

    name: str
    expires: str = NEVER
    form: str = "X-Amzn-SageMaker-New-Session-Id"
    seen: list[str | None] = field(default_factory=list)

    async def __call__(self, request: Request, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = request.header("X-Amzn-SageMaker-Session-Id")
        self.seen.append(session)
        headers = ""
        if session == "NEW_SESSION":
            headers = f"{self.form}: {self.name}-{len(self.seen)}; {self.expires}\r\n"
        elif request.body == b"close":
            headers = f"X-Amzn-SageMaker-Closed-Session-Id: {session}\r\n"
        body = self.name.encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)


@dataclass
class Stage:
    """A gateway with two instances that do sessions, and a client."""

    made: World
    containers: dict[str, Container]
    servers: dict[str, FakeServer]
    client: Any = None

    def connect(self) -> None:
        """Have a client of the gateway as it is now."""
        self.client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=f"http://127.0.0.1:{self.made.port}",
            region_name=REGION,
            aws_access_key_id=KEY.access_key_id,
            aws_secret_access_key=KEY.secret_access_key,
            config=Config(retries={"max_attempts": 1}),
        )

    async def invoke(self, session: str, body: bytes = b"x", **more: Any) -> Any:
        def call() -> Any:
            answer = self.client.invoke_endpoint(EndpointName="ep", Body=body, SessionId=session, **more)
            return answer, answer["Body"].read().decode()

        return await asyncio.to_thread(call)

    async def opened(self) -> tuple[str, str]:
        """Open a session; gives its id and the name of its instance."""
        answer, name = await self.invoke("NEW_SESSION")
        return answer["NewSessionId"].partition(";")[0], name

    async def refusal(self, session: str, **more: Any) -> str:
        with pytest.raises(ClientError) as refused:
            await self.invoke(session, **more)
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        return str(refused.value.response["Error"]["Message"])


@contextlib.asynccontextmanager
async def stage(make: Callable[[str], Container] = Container) -> AsyncIterator[Stage]:
    async with world() as made:
        containers = {name: make(name) for name in "ab"}
        servers = {name: await made.instance(name, container) for name, container in containers.items()}
        await made.start(endpoint("ep", variant("v1", *servers.values())))
        staged = Stage(made, containers, servers)
        staged.connect()
        try:
            yield staged
        finally:
            staged.client.close()


@pytest.mark.parametrize("form", ["X-Amzn-SageMaker-New-Session-Id", "X-Amzn-SageMaker-Session-Id"])
async def test_a_session_stays_with_the_instance_that_opened_it(form: str) -> None:
    async with stage(lambda name: Container(name, form=form)) as made:
        answer, name = await made.invoke("NEW_SESSION")
        assert answer["NewSessionId"] == f"{name}-1; {NEVER}"
        assert [(await made.invoke(f"{name}-1"))[1] for _ in range(12)] == [name] * 12
    assert made.containers[name].seen == ["NEW_SESSION", *[f"{name}-1"] * 12]


async def test_a_closed_session_is_gone() -> None:
    async with stage() as made:
        session, _ = await made.opened()
        answer, _ = await made.invoke(session, b"close")
        assert answer["ClosedSessionId"] == session
        assert await made.refusal(session) == f"Session {session} not found or expired for endpoint ep."


async def test_an_expired_session_is_gone() -> None:
    async with stage(lambda name: Container(name, expires=LONG_AGO)) as made:
        session, _ = await made.opened()
        assert await made.refusal(session) == f"Session {session} not found or expired for endpoint ep."


async def test_a_session_is_lost_with_its_instance() -> None:
    async with stage() as made:
        session, name = await made.opened()
        other = next(server for key, server in made.servers.items() if key != name)
        await made.made.control.publish(snapshot(2, endpoint("ep", variant("v1", other))))
        assert await made.refusal(session) == f"Session {session} not found or expired for endpoint ep."
        assert made.containers[other.path.stem].seen.count(session) == 0


async def test_a_session_of_one_variant_does_not_go_to_another() -> None:
    async with stage() as made:
        a, b = (variant(name, server) for name, server in made.servers.items())
        await made.made.control.publish(snapshot(2, endpoint("ep", a, b)))
        answer, _ = await made.invoke("NEW_SESSION", TargetVariant="a")
        session = answer["NewSessionId"].partition(";")[0]
        assert await made.refusal(session, TargetVariant="b") == (
            f"Session {session} of endpoint ep is bound to variant a, not to b."
        )
        assert (await made.invoke(session))[0]["InvokedProductionVariant"] == "a"


async def test_a_session_outlives_its_gateway() -> None:
    async with stage() as made:
        session, name = await made.opened()
        await made.made.stop_gateway()
        await made.made.start_gateway()
        made.client.close()
        made.connect()
        assert (await made.invoke(session))[1] == name


async def test_a_stream_may_go_on_with_a_session() -> None:
    async with stage() as made:
        session, name = await made.opened()

        def stream() -> bytes:
            answer = made.client.invoke_endpoint_with_response_stream(EndpointName="ep", Body=b"x", SessionId=session)
            return b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])

        assert {await asyncio.to_thread(stream) for _ in range(6)} == {name.encode()}
