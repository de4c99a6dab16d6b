"""A node agent with a bare environment, and a control plane's end of its link."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from tests.support.engines import BARE, DEADLINE_SECONDS, bench, until
from tests.support.objects import store_in

from moorage.base import link
from moorage.base.clock import SystemClock
from moorage.base.files import write_whole
from moorage.base.settings import Limits, Settings
from moorage.base.tasks import Tasks
from moorage.engine.artifacts import ArtifactFailure, Artifacts
from moorage.engine.built_folder import lay_beside, lay_over
from moorage.engine.cgroups import Cgroups, find_hierarchies
from moorage.engine.contract import ContainerSpec, InstanceReport, InstanceSpec, InstanceState, ModelSource
from moorage.engine.environments import Environment, EnvironmentFailure, Image
from moorage.engine.images.added import AddedPython
from moorage.engine.images.builtin import resolve
from moorage.engine.images.look import Facts, PythonImage
from moorage.engine.launch import Progress
from moorage.engine.mounts import unmount_below
from moorage.engine.promises import NOTHING_REFUSED, Refusals
from moorage.engine.volumes import why_not_bounded
from moorage.node.agent import Agent
from moorage.node.crew import Crews
from moorage.node.disks import Disks
from moorage.node.dumps import Dumps
from moorage.node.engines import Engines
from moorage.node.life import Life, Surroundings
from moorage.node.preparation import Places, Preparation
from moorage.node.reports import Reports
from moorage.node.shelves import Shelves

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
TESTS = Path(__file__).parents[1]
QUICK = replace(Limits(), ping_interval_seconds=0.1, ping_timeout_seconds=0.5, stop_grace_seconds=0.5)


ADDED = PythonImage(
    AddedPython("my/env", str(BARE.python), "sklearn", "3.11.7", "", 0.0),
    "my/env",
    Facts(BARE.python, "3.11.7", "python3.11", BARE.folders, (), frozenset(), {}),
)
"""A Python that stands for the image ``my/env``."""


class BareEnvironments:
    """Every image is this Python; ``broken`` requirements cannot be installed; ``my/env`` was added by a user."""

    async def resolve(self, image_uri: str) -> Image | None:
        return ADDED if image_uri == ADDED.repository else resolve(image_uri)

    async def ensure(self, _image: Image, progress: Progress) -> Environment:
        progress("nothing to install")
        return BARE

    async def overlay(self, environment: Environment, requirements: Path, progress: Progress) -> Environment:
        progress("pip says a word")
        text = await asyncio.to_thread(requirements.read_text, encoding="utf-8")
        if "broken" in text:
            raise EnvironmentFailure("failed to install required packages: there is no such package")
        return replace(environment, key="overlay")


class LaidOutArtifacts:
    """``s3://models/NAME`` is the folder that a test has laid out under that name; ``slow`` never comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.released: list[str] = []

    def at(self, folder: Path) -> "LaidOutArtifacts":
        """Copy what is laid out to where it is asked for: an artefact that is extracted there."""
        shutil.copytree(self._folder, folder)
        return LaidOutArtifacts(folder)

    def release(self, holder: str) -> None:
        self.released.append(holder)

    async def fetch(self, source: ModelSource, progress: Progress, _holder: str, _account: str) -> Path:
        url = source.uri
        progress(f"fetching {url}")
        name = url.removeprefix("s3://models/")
        if name == "slow":
            await asyncio.Event().wait()
        folder = self._folder / name / "content"
        if not folder.is_dir():
            raise ArtifactFailure(f"There is no model data at {url}.")
        return folder

    async def with_code(self, model: Path | None, code: Path, _holder: str) -> Path:
        name = f"{model.parent.name if model else ''}+{code.parent.name}"
        folder = self._folder / name / "content"
        folder.parent.mkdir()
        await asyncio.to_thread(lay_over, model, code, folder)
        return folder

    async def side_by_side(self, channels: Mapping[str, Path], _holder: str) -> Path:
        folder = self._folder / "+".join(channels) / "content"
        folder.parent.mkdir()
        await asyncio.to_thread(lay_beside, channels, folder)
        return folder


def make_spec(
    name: str,
    model: str = "model",
    seconds: float = 20.0,
    image: str = IMAGE,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> InstanceSpec:
    """Make a specification of an instance of one of the laid-out models."""
    container = ContainerSpec("primary", image, dict(environment), ModelSource(f"s3://models/{model}"))
    return InstanceSpec(name, "000000000000", "us-east-1", "ep", "v1", "ml.m5.large", (container,), seconds)


@dataclass
class ControlEnd:
    """What a control plane does with a node agent, and hears of it."""

    models: Path
    link: link.Link
    reports: dict[str, list[InstanceReport]] = field(default_factory=dict)
    refuses: dict[str, str] = field(default_factory=dict)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def model(self, name: str, code: str, requirements: str | None = None) -> None:
        folder = self.models / name / "content" / "code"
        folder.mkdir(parents=True)
        (folder / "inference.py").write_text(code, encoding="utf-8")
        if requirements is not None:
            (folder / "requirements.txt").write_text(requirements, encoding="utf-8")

    async def launch(
        self, name: str, *, model: str = "model", seconds: float = 20.0, image: str = IMAGE, **environment: str
    ) -> None:
        await self.ask_for(make_spec(name, model, seconds, image, environment))

    async def ask_for(self, spec: InstanceSpec) -> None:
        await self.link.send({"op": "launch", "spec": spec.to_message()})

    async def order(self, op: str, name: str) -> None:
        await self.link.send({"op": op, "instance_id": name})

    async def hear(self) -> None:
        async for message in self.link.messages():
            self.refuses.update(message.get("refuses", {}))
            for entry in message["instances"]:
                report = InstanceReport.from_message(entry)
                self.reports.setdefault(report.instance_id, []).append(report)
            self.heard.set()

    async def comes_to(self, name: str, state: InstanceState) -> InstanceReport:
        """Wait until an instance is reported in a state."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (found := [report for report in self.reports.get(name, ()) if report.state is state]):
                self.heard.clear()
                await self.heard.wait()
        return found[-1]

    def states(self, name: str) -> list[InstanceState]:
        """Give the states an instance went through, each once."""
        return list(dict.fromkeys(report.state for report in self.reports[name]))


@asynccontextmanager
async def call(socket: Path, models: Path) -> AsyncIterator[ControlEnd]:
    """Call a node agent as a control plane does."""
    end = ControlEnd(models, await link.connect(socket))
    hearing = asyncio.get_running_loop().create_task(end.hear())
    try:
        yield end
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await end.link.close()


@asynccontextmanager
async def node(
    engine: str,
    folder: Path,
    limits: Limits = QUICK,
    refusals: Refusals = NOTHING_REFUSED,
    *,
    artifacts: Artifacts | None = None,
) -> AsyncIterator[Path]:
    """Have a node agent in this process; gives its socket."""
    async with bench(engine, folder) as made:
        places = Places(made.sockets, folder / "logs", made.pump)
        clock = SystemClock()
        store = store_in(folder)
        volumes = made.volumes
        leftovers = await asyncio.to_thread(volumes.names)
        disks = Disks(volumes, Dumps(store, clock, limits), clock, limits, bounded=not why_not_bounded())
        laid_out = LaidOutArtifacts(folder / "models")
        settings = Settings(data_dir=folder, run_dir=made.sockets, limits=limits)
        preparation = Preparation(
            BareEnvironments(),
            artifacts or laid_out,
            places,
            2,
            machine_memory_bytes=2**40,
            disks=disks,
            refusals=refusals,
            shelves=Shelves(settings, 2, sees_machine=engine == "process"),
        )
        reports = Reports({"refuses": dict(refusals.by_all)})
        crews = Crews(Engines(made.launcher), made.cgroups, settings)
        around = Surroundings(preparation, crews, places, disks, reports, clock, limits)
        agent = Agent(reports, lambda spec: Life(spec, around))
        server = await link.listen(made.sockets / "node.sock", agent.serve)
        tasks = Tasks()
        tasks.start("leftovers", disks.leave_leftovers(leftovers, lambda spec: places.log(spec).add))
        try:
            yield made.sockets / "node.sock"
        finally:
            await agent.close(DEADLINE_SECONDS)
            server.close()
            await tasks.close()
            await crews.close()
            store.close()


async def _serve(engine: str, folder: Path) -> None:
    async with node(engine, folder) as socket:
        write_whole(folder / "ready", str(socket).encode(), durable=False)
        await asyncio.Event().wait()


@asynccontextmanager
async def agent_to_be_killed(engine: str, folder: Path) -> AsyncIterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Have a node agent in a process of its own, which the test kills: that and its socket, in a folder of its own."""
    code = f"from support.node import main; main({engine!r}, {str(folder)!r})"
    path = os.pathsep.join([str(TESTS), *sys.path])
    agent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        await until((folder / "ready").exists, "the node agent listens")
        yield agent, Path((folder / "ready").read_text(encoding="utf-8"))
    finally:
        agent.kill()
        agent.wait()
        unmount_below(folder)
        groups = Cgroups(find_hierarchies(f"moorage-test-{agent.pid}-{folder.name}"))
        groups.remove_leftovers()
        groups.close()


def main(engine: str, folder: str) -> None:
    """Be a node agent's process until killed."""
    asyncio.run(_serve(engine, Path(folder)))
