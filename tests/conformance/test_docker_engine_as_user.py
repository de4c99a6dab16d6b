"""The docker engine of an ordinary user who may use root's daemon (the group ``docker``): what holds, what is refused.

``test_docker_engine.py`` runs this file as such a user where the tests are root's.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.containers import ImageBench, docker_bench
from tests.support.dockerd import daemon, needs_docker

from moorage.engine.docker.daemon import Daemon
from moorage.engine.launch import LaunchFailed

__all__ = ["daemon"]

pytestmark = [needs_docker, pytest.mark.skipif(os.geteuid() == 0, reason="this is not an ordinary user")]

IMAGE = "localhost/moorage-test/obedient:1"


@pytest.fixture
async def engine(daemon: Daemon, tmp_path: Path) -> AsyncIterator[ImageBench]:
    async with docker_bench(daemon, tmp_path) as made:
        yield made


async def test_container_answers_with_its_model_and_ends(engine: ImageBench) -> None:
    resolved = await engine.engine.ensure(IMAGE, lambda _line: None)
    running = await engine.ready(resolved, model=engine.model(weights="42"))
    assert await running.ask("open('/opt/ml/model/weights').read()") == "'42'"
    assert "Read-only file system" in await running.ask("open('/opt/ml/model/weights', 'w')")
    running.container.terminate()
    assert (await running.end()).code == 0


async def test_out_of_memory_is_told(engine: ImageBench) -> None:
    resolved = await engine.engine.ensure(IMAGE, lambda _line: None)
    running = await engine.start(
        resolved, memory_bytes=64 * 2**20, variables={"BEFORE_SERVING": "len(b'x' * 200_000_000)"}
    )
    assert (await running.end()).out_of_memory


async def test_siblings_do_not_reach_each_other(engine: ImageBench) -> None:
    resolved = await engine.engine.ensure(IMAGE, lambda _line: None)
    first, second = await engine.ready(resolved), await engine.ready(resolved)
    address = first.container.address.rpartition(":")[0]
    assert "TimeoutError" in await second.ask(f"socket.create_connection(({address!r}, 8080), 2)")


async def test_isolation_is_refused_with_the_reason_and_nothing_is_left(engine: ImageBench) -> None:
    resolved = await engine.engine.ensure(IMAGE, lambda _line: None)
    with pytest.raises(LaunchFailed, match="cannot be isolated from the network: this user may not enter"):
        await engine.start(resolved, isolated=True)
