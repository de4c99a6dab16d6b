"""Built-in images in containers: what of an instance is the container's, and that the one ends with the other."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.containers import docker, installation_of, make_engine
from tests.support.dockerd import needs_docker
from tests.support.engines import OBEDIENT, Bench, bench, is_living, until

from moorage.engine.docker import engine as docker_engine
from moorage.engine.docker.container import Process
from moorage.engine.docker.daemon import Daemon
from moorage.engine.docker.engine import EMPTY_IMAGE
from moorage.engine.launch import LaunchFailed

pytestmark = [
    needs_docker,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may enter the containers of a daemon"),
]


@pytest.fixture
async def guests(daemon: Daemon, tmp_path: Path) -> AsyncIterator[Bench]:
    """Have the engine docker of built-in images."""
    if daemon.rootless or not daemon.here or daemon.remaps:
        pytest.skip(f"the containers of {daemon} cannot be entered")
    async with bench("docker", tmp_path, docker=make_engine(daemon, tmp_path)) as made:
        yield made


def containers(daemon: Daemon, guests: Bench) -> list[str]:
    """Give the ids of the containers that an engine has."""
    label = f"label=moorage.installation={installation_of(guests.folder)}"
    return docker(daemon, "ps", "--all", "--quiet", "--filter", label).split()


def first_process(daemon: Daemon, container: str) -> int:
    return int(docker(daemon, "inspect", "--format", "{{.State.Pid}}", container))


async def test_instance_is_in_all_namespaces_and_control_groups_of_its_container(guests: Bench, daemon: Daemon) -> None:
    instance = await guests.ready()
    (container,) = containers(daemon, guests)
    first = first_process(daemon, container)
    for name in ("cgroup", "ipc", "uts", "net", "pid", "mnt"):
        assert Path(f"/proc/{instance.pid}/ns/{name}").readlink() == Path(f"/proc/{first}/ns/{name}").readlink(), name
    assert Path(f"/proc/{instance.pid}/cgroup").read_text() == Path(f"/proc/{first}/cgroup").read_text()


async def test_each_instance_is_a_user_of_its_own_and_none_is_the_first_processs(guests: Bench, daemon: Daemon) -> None:
    instances = [await guests.ready(name=name) for name in ("one", "two")]
    pids = [instance.pid for instance in instances]
    pids += [first_process(daemon, container) for container in containers(daemon, guests)]
    users = [Path(f"/proc/{pid}").stat().st_uid for pid in pids]
    assert (len(set(users)), set(users[2:]), 0 in users) == (3, {65534}, False)
    assert "PermissionError" in await instances[0].ask("os.kill(1, signal.SIGTERM)")


async def test_end_of_an_instance_is_the_end_of_its_container(guests: Bench, daemon: Daemon) -> None:
    instance = await guests.ready()
    instance.running.terminate()
    assert (await instance.end()).code == 0
    assert containers(daemon, guests) == []


@pytest.mark.parametrize("command", ["kill", "stop", "rm --force"])
async def test_end_of_a_container_is_the_end_of_its_instance(guests: Bench, daemon: Daemon, command: str) -> None:
    instance = await guests.ready()
    (container,) = containers(daemon, guests)
    await asyncio.to_thread(docker, daemon, *command.split(), container)
    assert str(await instance.end()) == "killed by SIGKILL"
    assert containers(daemon, guests) == []


async def test_one_that_is_killed_harms_no_other_and_another_takes_its_place(guests: Bench, daemon: Daemon) -> None:
    first, second = await guests.ready(name="first"), await guests.ready(name="second")
    os.kill(first.pid, signal.SIGKILL)
    await first.end()
    third = await guests.ready(name="third")
    assert (await second.ask("2"), await third.ask("3")) == ("2", "3")
    assert len(guests.zygotes.pids) == 1
    assert len(containers(daemon, guests)) == 2


async def test_processes_that_end_without_a_parent_do_not_stay(guests: Bench) -> None:
    instance = await guests.ready()
    for _ in range(3):
        await instance.ask("subprocess.getoutput('(sleep 0 &)')")
    counted = "len([name for name in os.listdir('/proc') if name.isdigit()])"
    async with asyncio.timeout(20):
        while await instance.ask(counted) != "2":
            await asyncio.sleep(0.01)


async def test_image_of_empty_containers_that_was_pruned_is_made_anew(guests: Bench, daemon: Daemon) -> None:
    await (await guests.ready(name="first")).kill()
    await guests.instances[0].end()
    (image,) = docker(daemon, "images", "--format", "{{.Repository}}:{{.Tag}}", EMPTY_IMAGE).split()[:1]
    await asyncio.to_thread(docker, daemon, "rmi", "--force", image)
    assert await (await guests.ready(name="second")).ask("6 * 7") == "42"


async def test_container_is_removed_where_its_zygote_cannot_fork(guests: Bench, daemon: Daemon) -> None:
    no_namespace = lambda _launch: (os.open(os.devnull, os.O_RDONLY),)  # noqa: E731 - what nobody can enter
    guests.engine.open_namespaces = no_namespace  # type: ignore[method-assign]
    with pytest.raises(LaunchFailed, match="could not be started"):
        await guests.start(guests.model(OBEDIENT))
    assert containers(daemon, guests) == []


async def test_process_that_is_not_the_containers_is_never_entered(
    guests: Bench, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    # As where Moorage is in a container itself: there the daemon's process ids are those of others.
    monkeypatch.setattr(docker_engine, "_watch_process", lambda _found: Process(stranger.pid))
    with pytest.raises(LaunchFailed, match="is another one here than where the daemon is"):
        await guests.start(guests.model(OBEDIENT))
    assert containers(daemon, guests) == []
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_next_start_removes_containers_that_were_left_and_so_their_instances(
    guests: Bench, daemon: Daemon
) -> None:
    instance = await guests.ready()
    await make_engine(daemon, guests.folder).prepare()  # the next start of the same folder
    await until(lambda: not is_living(instance.pid), "it has ended with its container")
    assert containers(daemon, guests) == []
