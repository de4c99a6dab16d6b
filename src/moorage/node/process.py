"""The process of the node agent."""

import asyncio
import logging
import shutil
from functools import partial

from moorage.base import link
from moorage.base.clock import Clock, SystemClock
from moorage.base.ids import SystemIds
from moorage.base.link import Message
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.engine.artifacts import Artifacts
from moorage.engine.cgroups import Cgroups, groups_of
from moorage.engine.commands import Runner, run_plainly
from moorage.engine.contract import InstanceSpec
from moorage.engine.environments import Environments
from moorage.engine.installer import Installer
from moorage.engine.launch import Container, Engine, ImageEngine, LaunchFailed, ServingLaunch
from moorage.engine.launcher import Launcher
from moorage.engine.probe import EngineUnavailable, Machine, choose_engine, probe
from moorage.engine.process import PlainProcess
from moorage.engine.sandbox import Sandbox
from moorage.engine.zygote import Zygotes
from moorage.node.agent import Agent
from moorage.node.engines import Engines
from moorage.node.life import Life, Surroundings
from moorage.node.preparation import Places, Preparation
from moorage.node.reports import Reports
from moorage.objects.folder import open_store
from moorage.serving.isolation import adopt_orphans

log = logging.getLogger(__name__)

_SCRATCH = "sandbox"
"""Folder of ``run_dir`` for the few files of ``/etc`` that instances see instead of the machine's."""

_AFTER_GRACE_SECONDS = 5.0
"""For the kernel and the cleaning up, after the last SIGKILL of a stop."""


def run(settings: Settings) -> None:
    """Run the node agent until SIGTERM; then its instances end, in their grace."""
    run_process("node", partial(_run, settings, SystemClock()))


async def _run(settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
    # The middle process of a fork ends at once; its orphan, the instance, is to be ours (serving/zygote.py).
    adopt_orphans()
    machine = await asyncio.to_thread(probe)
    places = Places(settings.run_dir / "i", settings.data_dir / "logs")
    cgroups = await asyncio.to_thread(_clean, settings, places)
    image_engine = _make_image_engine(settings, machine)
    engines = Engines(await _make_launcher(settings, machine, cgroups, clock), image_engine)
    store = open_store(settings, clock, SystemIds())
    preparation = Preparation(
        Environments(settings.environments, clock, runner=_make_runner(settings, machine)),
        Artifacts(store, settings.data_dir / "models", settings.limits, clock),
        places,
        machine.cpus,
        image_engine,
    )
    reports = Reports({"machine": resources(machine)})
    surroundings = Surroundings(preparation, engines, reports, clock, settings.limits)

    def make_life(spec: InstanceSpec) -> Life:
        return Life(spec, places.log(spec), surroundings)

    agent = Agent(reports, make_life)
    server = await link.listen(settings.run_dir / "node.sock", agent.serve)
    await stop.wait()
    await agent.close(settings.limits.stop_grace_seconds + _AFTER_GRACE_SECONDS)
    server.close()
    await engines.close()
    store.close()


def resources(machine: Machine) -> Message:
    """Say what a machine has for instances."""
    return {
        "vcpus": machine.cpus,
        "memory_mib": machine.memory_bytes // 2**20,
        "gpus": machine.gpus,
        "gpu_driver": machine.gpu_driver,
    }


def _clean(settings: Settings, places: Places) -> Cgroups:
    """Take away what an agent that was killed has left: its instances are dead, their sockets and groups are not."""
    shutil.rmtree(places.sockets, ignore_errors=True)
    places.sockets.mkdir(mode=0o700, parents=True)
    cgroups = groups_of(settings.run_dir)
    cgroups.remove_leftovers()
    return cgroups


async def _make_launcher(settings: Settings, machine: Machine, cgroups: Cgroups, clock: Clock) -> "Launcher | NoEngine":
    try:
        engine = make_engine(choose_engine(settings.engine, machine), settings, machine)
    except EngineUnavailable as fault:
        log.error("%s", fault)
        return NoEngine(str(fault))
    await asyncio.to_thread(engine.prepare)
    if machine.engine != engine.name or machine.sandbox_fault:
        log.warning("instances run in the engine %s: %s", engine.name, machine.sandbox_fault or "as it was set")
    zygotes = Zygotes(engine, clock, settings.data_dir / "logs" / "zygotes")
    return Launcher(engine, cgroups, zygotes)


def _make_image_engine(_settings: Settings, _machine: Machine) -> ImageEngine | None:
    return None


def _make_runner(settings: Settings, machine: Machine) -> Runner:
    """Give what runs pip for a model's own requirements: in the sandbox where instances are."""
    if machine.sandbox_fault or settings.engine == "process":
        return run_plainly
    return Installer(_bubblewrap(), scratch=settings.run_dir / _SCRATCH).run


def _bubblewrap() -> str:
    return shutil.which("bwrap") or "bwrap"


def make_engine(name: str, settings: Settings, machine: Machine) -> Engine:
    """Make the engine of a name that ``choose_engine`` gave."""
    if name == "sandbox":
        return Sandbox(
            _bubblewrap(),
            models=settings.data_dir / "models",
            scratch=settings.run_dir / _SCRATCH,
            as_root=machine.as_root,
        )
    return PlainProcess(scratch=settings.data_dir / "instances")


class NoEngine:
    """Stands for an engine that was asked for and cannot be had: each launch fails and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def launch(self, launch: ServingLaunch) -> Container:
        """Refuse; raises LaunchFailed."""
        raise LaunchFailed(f"{launch.instance_id} cannot be started. {self._reason}")

    async def close(self) -> None:
        """There is nothing to close."""
