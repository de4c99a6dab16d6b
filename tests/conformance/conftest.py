"""The engines of this machine, each with a folder of its own and the network that its instances share."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import promise_table
from tests.support.any_engine import AnyBench, ContainerBench, containers_of_docker
from tests.support.containers import docker, load
from tests.support.containers import make_engine as make_docker
from tests.support.dockerd import daemon
from tests.support.engines import Bench, bench
from tests.support.images import python_image
from tests.support.machine import MACHINE
from tests.support.promise_table import GUESTS, UNPACKED
from tests.support.unpacked import unpacked_bench

from moorage.base.clock import SystemClock
from moorage.engine.docker.daemon import Daemon
from moorage.engine.machine import ENGINES, Machine, Need
from moorage.engine.network import OutsideNetwork
from moorage.engine.probe import judge_docker
from moorage.engine.promises import PROMISES, judge

__all__ = ["daemon"]

OBEDIENT_IMAGE = "localhost/moorage-test/obedient:any"

_BY_ID = {promise.id: promise for promise in PROMISES}


@pytest.fixture(scope="session")
def network() -> Iterator[OutsideNetwork | None]:
    """Have the network of instances that may have one; None: they are in the machine's."""
    if Need.OUTSIDE_NETWORK in MACHINE.lacks:
        yield None
        return
    made = OutsideNetwork.open(SystemClock(), as_root=MACHINE.as_root)
    yield made
    made.close()


@pytest.fixture(params=["sandbox", "process", GUESTS])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Have each engine of built-in images; a test of a promise runs on those that keep it here."""
    if request.param == GUESTS:
        async with _guests(request, tmp_path) as made:
            yield made
        return
    _skip_unless_kept(request.node, request.param, MACHINE)
    async with bench(request.param, tmp_path, network=request.getfixturevalue("network")) as made:
        yield made


@pytest.fixture(params=["sandbox", GUESTS])
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Have the engines that give a built-in image a view of its own."""
    if request.param == GUESTS:
        async with _guests(request, tmp_path) as made:
            yield made
        return
    _skip_unless_kept(request.node, "sandbox", MACHINE)
    async with bench("sandbox", tmp_path, network=request.getfixturevalue("network")) as made:
        yield made


@pytest.fixture(params=[*ENGINES, UNPACKED, GUESTS])
async def any_engine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    obedient_image: Callable[[Daemon], str],
    library: Path,
) -> AsyncIterator[AnyBench]:
    """Have each engine, also those of images which are not built in; a test of a promise runs on those that keep it."""
    if request.param == UNPACKED:
        _skip_unless_kept(request.node, "sandbox", MACHINE)
        async with unpacked_bench(tmp_path, library) as unpacked:
            yield ContainerBench(unpacked, await unpacked.add(python_image(), OBEDIENT_IMAGE))
        return
    if request.param == GUESTS:
        async with _guests(request, tmp_path) as guests:
            yield guests
        return
    if request.param == "docker":
        found: Daemon = request.getfixturevalue("daemon")
        _skip_unless_kept(request.node, "docker", _with_docker(found))
        async with containers_of_docker(found, obedient_image(found), tmp_path) as containers:
            yield containers
        return
    _skip_unless_kept(request.node, request.param, MACHINE)
    async with bench(request.param, tmp_path, network=request.getfixturevalue("network")) as made:
        yield made


@asynccontextmanager
async def _guests(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Bench]:
    """Have the engine docker of built-in images."""
    daemon: Daemon = request.getfixturevalue("daemon")
    machine = _with_docker(daemon)
    if machine.guests_fault:
        pytest.skip(f"no built-in image in a container: {machine.guests_fault}")
    _skip_unless_kept(request.node, "docker", machine)
    async with bench("docker", folder, docker=make_docker(daemon, folder)) as made:
        yield made


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of unpacked images for all tests: to unpack Python takes longer than all else."""
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="session")
def obedient_image(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Daemon], str]:
    """Give what loads the image of a server that evaluates what it is sent, once, and gives its id."""

    @functools.cache
    def load_into(daemon: Daemon) -> str:
        load(daemon, python_image(), OBEDIENT_IMAGE, tmp_path_factory.mktemp("image"))
        return docker(daemon, "image", "inspect", "--format", "{{.Id}}", OBEDIENT_IMAGE)

    return load_into


def _with_docker(daemon: Daemon) -> Machine:
    """Give this machine with a daemon that only tests have."""
    lacks: dict[Need, str] = {need: why for need, why in MACHINE.lacks.items() if need is not Need.DOCKER}
    lacks.update(judge_docker(daemon, "", as_root=MACHINE.as_root))
    return replace(MACHINE, docker=daemon, lacks=lacks)


def _skip_unless_kept(item: pytest.Item, engine: str, machine: Machine) -> None:
    if engine == "sandbox" and machine.sandbox_fault:
        pytest.skip(f"no sandbox: {machine.sandbox_fault}")
    for promise in promise_table.promises_of(item):
        verdict = judge(_BY_ID[promise], machine, engine)
        if not verdict.kept:
            pytest.skip(f"{engine} does not keep here that {_BY_ID[promise].text}, because {verdict.reason}")
