"""The process of the node agent."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Sequence
from functools import partial

from moorage.base import link
from moorage.base.clock import Clock, SystemClock
from moorage.base.descriptors import allow_most_files
from moorage.base.ids import SystemIds
from moorage.base.link import Message
from moorage.base.process import run_process
from moorage.base.settings import Limits, Settings
from moorage.base.tasks import Tasks
from moorage.engine import promises
from moorage.engine.artifacts import Artifacts
from moorage.engine.cgroups import Cgroups, groups_of, hasten
from moorage.engine.commands import Runner, run_plainly
from moorage.engine.contract import InstanceSpec
from moorage.engine.docker.engine import DockerEngine, make_docker_engine
from moorage.engine.docker.guests import ZYGOTE_CAPABILITIES, Guests
from moorage.engine.environments import Environments
from moorage.engine.images.added import AddedPythons
from moorage.engine.installer import Installer
from moorage.engine.launch import Container, Engine, ImageEngine, LaunchFailed, ServingLaunch
from moorage.engine.launcher import Launcher
from moorage.engine.machine import Machine, Need
from moorage.engine.network import NetworkSlow, NetworkUnavailable, SharedNetwork
from moorage.engine.probe import EVERYTHING, EngineUnavailable, choose_engine, choose_image_engine, probe
from moorage.engine.process import PlainProcess
from moorage.engine.promises import Refusals
from moorage.engine.rootfs.engine import make_unpacked_images
from moorage.engine.rootfs.maker import try_rooms
from moorage.engine.sandbox import NOTHING_SHARED, Sandbox, Shared, UserIds
from moorage.engine.volumes import Volumes, volumes_folder
from moorage.engine.zygote import Zygotes
from moorage.kms.ring import open_ring
from moorage.logs.pump import Pump
from moorage.logs.sweep import finish_leftovers, sweep
from moorage.logs.writer import Bounds
from moorage.node.agent import Agent
from moorage.node.crew import Crews
from moorage.node.disks import Disks
from moorage.node.dumps import Dumps
from moorage.node.engines import Engines
from moorage.node.entrances import Entrance, Wanted
from moorage.node.life import Life, Surroundings
from moorage.node.preparation import Places, Preparation
from moorage.node.reports import Reports
from moorage.node.shells import Shells
from moorage.node.shelves import Shelves
from moorage.node.upkeep import keep_house
from moorage.objects.folder import open_store
from moorage.serving.isolation import CAPABILITIES, adopt_orphans

log = logging.getLogger(__name__)

_SCRATCH = "sandbox"
"""Folder of ``run_dir`` for the few files of ``/etc`` that instances see instead of the machine's."""

_SWEEP_SECONDS = 60.0
"""Between two looks at how old and how large the logs are."""

_NETWORK_ATTEMPTS = 3

_AFTER_GRACE_SECONDS = 5.0
"""For the kernel and the cleaning up, after the last SIGKILL of a stop."""


def run(settings: Settings) -> None:
    """Run the node agent until SIGTERM; then its instances end, in their grace."""
    run_process("node", partial(_run, settings, SystemClock()))


async def _run(settings: Settings, clock: SystemClock, stop: asyncio.Event) -> None:
    # The middle process of a fork ends at once; its orphan, the instance, is to be ours (serving/zygote.py).
    adopt_orphans()
    allow_most_files()  # each instance takes some: of its process, its gate and its log
    machine = await asyncio.to_thread(probe, EVERYTHING - {Need.OUTSIDE_NETWORK})
    limits = settings.limits
    pump = Pump(Bounds(limits.instance_log_bytes, limits.instance_log_files), clock)
    places = Places(settings.run_dir / "i", settings.data_dir / "logs", pump)
    cgroups = await asyncio.to_thread(_clean, settings, places)
    image_engine = await _make_image_engine(settings, machine, cgroups, clock)
    volumes = Volumes(volumes_folder(settings.data_dir), open_ring(settings, clock, SystemIds()))
    await asyncio.to_thread(volumes.prepare)  # once nothing of an earlier run uses them, containers included
    leftovers = await asyncio.to_thread(volumes.names)
    try:
        network = await _make_network(settings, machine, clock)
        engine = _choose_serving(settings, machine, cgroups, network, image_engine)
    except NetworkSlow as fault:
        network, engine = None, NoEngine(f"The network of instances is not there: {fault}. Start Moorage again.")
    engines = Engines(await _make_launcher(engine, settings, cgroups, clock, network), image_engine)
    refusals = _judge(settings, machine, image_engine)
    store = open_store(settings, clock, SystemIds())
    artifacts = Artifacts(store, settings.data_dir / "models", settings.limits, clock)
    dumps = Dumps(store, clock, settings.limits)
    disks = Disks(volumes, dumps, clock, settings.limits, bounded=Need.VOLUME not in machine.lacks)
    preparation = Preparation(
        Environments(
            settings.environments,
            clock,
            pythons=AddedPythons(settings.data_dir),
            runner=_make_runner(settings, machine),
            with_gpu_libraries=settings.gpu_libraries == "install",
        ),
        artifacts,
        places,
        machine.cpus,
        image_engine,
        machine_memory_bytes=machine.memory_bytes,
        disks=disks,
        refusals=refusals,
        shelves=await asyncio.to_thread(_clean_shelves, settings, machine),
    )
    about = {
        "machine": resources(machine),
        "refuses": refusals.by_all,
        "runs_images": image_engine is not None,
    }
    reports = Reports(about)
    crews = Crews(engines, cgroups, settings)
    surroundings = Surroundings(preparation, crews, places, disks, reports, clock, settings.limits)

    tasks = Tasks()

    def make_life(spec: InstanceSpec) -> Life:
        _hasten_groups(spec, engines, tasks)
        return Life(spec, surroundings)

    agent = Agent(reports, make_life)
    server = await link.listen(settings.run_dir / "node.sock", agent.serve)
    tasks.start("leftover volumes", disks.leave_leftovers(leftovers, lambda spec: places.log(spec).add))
    tasks.start("upkeep", keep_house(artifacts, settings.data_dir, settings.limits, clock))
    tasks.start("sweep logs", _sweep_logs(places, limits, clock))
    if network is not None:
        tasks.start("keep the network of instances", network.keep())
    shells = _open_shells(settings, agent)
    await stop.wait()
    shells.close()
    await agent.close(settings.limits.stop_grace_seconds + _AFTER_GRACE_SECONDS)
    server.close()
    await tasks.close()
    await crews.close()
    await engines.close()
    await asyncio.to_thread(volumes.close)
    if network is not None:
        await asyncio.to_thread(network.close)
    await asyncio.to_thread(pump.close)
    store.close()


def _hasten_groups(spec: InstanceSpec, engines: Engines, tasks: Tasks) -> None:
    """While an instance is prepared: during it no process can be forked, after it one joins its group at once."""
    if not engines.has_spare_for(spec):
        tasks.start("hasten control groups", asyncio.to_thread(hasten))


async def _sweep_logs(places: Places, limits: Limits, clock: Clock) -> None:
    """Keep the logs within their bounds, for ever."""
    await asyncio.to_thread(finish_leftovers, places.logs, places.pump.living)
    while True:
        removed = await asyncio.to_thread(
            sweep,
            places.logs,
            places.pump.living,
            now=clock.now(),
            kept_seconds=limits.logs_kept_seconds,
            most_bytes=limits.logs_total_bytes,
        )
        if removed:
            log.info("removed %d files of logs that were too old, or too much", removed)
        await clock.sleep_until(clock.monotonic() + _SWEEP_SECONDS)


def _open_shells(settings: Settings, agent: Agent) -> Shells:
    """Let ``moorage exec`` in; what a request leads to is looked up in the event loop, whose the agent is."""
    loop = asyncio.get_running_loop()

    async def find(wanted: Wanted) -> Entrance:
        return agent.find_entrance(wanted)

    shells = Shells(
        settings.run_dir / "shell.sock", lambda wanted: asyncio.run_coroutine_threadsafe(find(wanted), loop).result()
    )
    shells.start()
    return shells


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


def _clean_shelves(settings: Settings, machine: Machine) -> Shelves:
    """Make the folders of many models, without those of instances that are dead."""
    shelves = Shelves(settings, machine.cpus, sees_machine=_serving_engine(settings, machine) == "process")
    shelves.clear_leftovers()
    return shelves


def _judge(settings: Settings, machine: Machine, image_engine: ImageEngine | None) -> Refusals:
    """Say what the engines here cannot do as the API's members ask."""
    serving = _serving_engine(settings, machine) or settings.engine
    images = None if image_engine is None else promises.refusals(machine, image_engine.name)
    return Refusals(promises.refusals(machine, serving), images)


async def _make_network(settings: Settings, machine: Machine, clock: SystemClock) -> SharedNetwork | None:
    """Make the network of instances that may have one; None: they are in the machine's, and the log says why.

    Raises NetworkSlow when it could be had and was not there in time: instances must not be in the machine's then.
    """
    if _serving_engine(settings, machine) != "sandbox":
        return None
    for attempt in range(1, _NETWORK_ATTEMPTS + 1):
        try:
            return await asyncio.to_thread(SharedNetwork, clock, as_root=machine.as_root)
        except NetworkSlow as fault:
            log.warning("the network of instances, attempt %d of %d: %s", attempt, _NETWORK_ATTEMPTS, fault)
            if attempt == _NETWORK_ATTEMPTS:
                raise
        except NetworkUnavailable as fault:
            advice = promises.advise(Need.OUTSIDE_NETWORK, machine)
            log.warning("instances share the machine's network: %s. %s", fault, advice)
            break
    return None


def _serving_engine(settings: Settings, machine: Machine) -> str:
    """Say which engine runs built-in images; empty where the one that was asked for does not work."""
    with contextlib.suppress(EngineUnavailable):
        return choose_engine(settings.engine, machine)
    return ""


def _choose_serving(
    settings: Settings,
    machine: Machine,
    cgroups: Cgroups,
    network: SharedNetwork | None,
    image_engine: ImageEngine | None,
) -> "Engine | NoEngine":
    """Make the engine of built-in images, and say in the log why it is another one than was asked for."""
    try:
        name = choose_engine(settings.engine, machine)
    except EngineUnavailable as fault:
        log.error("%s", fault)
        return NoEngine(str(fault))
    if settings.engine == "docker" and name != "docker":
        log.warning("built-in images run in the engine %s: %s", name, machine.guests_fault)
    elif machine.engine != name or machine.sandbox_fault:
        log.warning("instances run in the engine %s: %s", name, machine.sandbox_fault or "as it was set")
    if name != "docker":
        return make_engine(name, settings, machine, cgroups, network)
    if not isinstance(image_engine, DockerEngine):
        return NoEngine("The engine docker could not be made.")
    zygotes = _make_sandbox(settings, machine, NOTHING_SHARED, ZYGOTE_CAPABILITIES)
    return Guests(image_engine, zygotes, UserIds.of(settings.run_dir / _SCRATCH))


async def _make_launcher(
    engine: "Engine | NoEngine", settings: Settings, cgroups: Cgroups, clock: Clock, network: SharedNetwork | None
) -> "Launcher | NoEngine":
    if isinstance(engine, NoEngine):
        return engine
    await asyncio.to_thread(engine.prepare)
    zygotes = Zygotes(engine, clock, settings.data_dir / "logs" / "zygotes")
    if network is not None:
        network.tell(zygotes.retire)
    return Launcher(engine, cgroups, zygotes, clock)


async def _make_image_engine(
    settings: Settings, machine: Machine, cgroups: Cgroups, clock: Clock
) -> ImageEngine | None:
    """Make what runs images that are not built in; None where nothing does."""
    try:
        chosen = choose_image_engine(settings.engine, machine)
    except EngineUnavailable as fault:
        log.error("%s", fault)
        return None
    if chosen == "docker" and machine.docker is not None:
        docker = make_docker_engine(machine.docker, settings.run_dir, settings.registry_mirrors, clock)
        await docker.prepare()
        log.info("images that are not built in are run by %s", machine.docker)
        return docker
    if chosen is None:
        return None
    if reason := await asyncio.to_thread(try_rooms, settings.data_dir):
        log.warning("images that are not built in cannot be run without Docker here: %s", reason)
        return None
    log.info("images that are not built in are run by the engine sandbox")
    unpacked = make_unpacked_images(settings, cgroups, clock, as_root=machine.as_root)
    await unpacked.prepare()
    return unpacked


def _make_runner(settings: Settings, machine: Machine) -> Runner:
    """Give what runs pip for a model's own requirements: in the sandbox where instances are."""
    if machine.sandbox_fault or settings.engine == "process":
        return run_plainly
    return Installer(_bubblewrap(), scratch=settings.run_dir / _SCRATCH).run


def _bubblewrap() -> str:
    return shutil.which("bwrap") or "bwrap"


def make_engine(
    name: str, settings: Settings, machine: Machine, cgroups: Cgroups, network: SharedNetwork | None
) -> Engine:
    """Make the engine of built-in images ``sandbox`` or ``process``."""
    if name == "sandbox":
        return _make_sandbox(settings, machine, Shared(network, cgroups.visible), CAPABILITIES)
    return PlainProcess(scratch=settings.data_dir / "instances")


def _make_sandbox(settings: Settings, machine: Machine, shared: Shared, capabilities: Sequence[str]) -> Sandbox:
    return Sandbox(
        _bubblewrap(),
        models=settings.data_dir / "models",
        volumes=volumes_folder(settings.data_dir),
        scratch=settings.run_dir / _SCRATCH,
        as_root=machine.as_root,
        shared=shared,
        capabilities=capabilities,
    )


class NoEngine:
    """Stands for an engine that was asked for and cannot be had: each launch fails and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @property
    def has_spare(self) -> bool:
        """Whether a launch finds anything: it never does."""
        return False

    async def launch(self, launch: ServingLaunch) -> Container:
        """Refuse; raises LaunchFailed."""
        raise LaunchFailed(f"{launch.instance_id} cannot be started. {self._reason}")

    async def close(self) -> None:
        """There is nothing to close."""
