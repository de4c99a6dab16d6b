"""Built-in images in containers: instances are forked from a warm process, as in the sandbox, into a container each.

The daemon starts an empty container (``empty.py``) with the limits, the network and the disk of the instance; the
zygote, which is in the sandbox's view of the machine, forks a child into its namespaces, and the node agent puts that
into its control groups. The child becomes a user of its own and gives up all privileges, as in the sandbox. Nobody
without root's privileges over this machine can do that, and no daemon elsewhere: ``Machine.guests_fault``.

Who ends first ends the other: with the container's first process the kernel ends all processes of its process
namespace, and an instance's end is the container's (``Launcher``).
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from moorage.engine.cgroups import CONTROLLERS, open_groups_of, parse_own_groups
from moorage.engine.docker.container import DockerContainer
from moorage.engine.docker.engine import DockerEngine
from moorage.engine.enter import open_namespaces
from moorage.engine.environments import Environment
from moorage.engine.launch import Group, ServingLaunch
from moorage.engine.sandbox import Sandbox, UserIds
from moorage.serving import seccomp
from moorage.serving.isolation import CAPABILITIES, GUEST_CAPABILITY, MODEL_FOLDER

ZYGOTE_CAPABILITIES = (*CAPABILITIES, GUEST_CAPABILITY)

_GONE_SECONDS = 20.0
"""For a daemon to remove a container that has ended."""


class Guests:
    """Runs instances of built-in images in containers."""

    name = "docker"
    makes_rooms = False
    forks_ahead = False
    ends_as_one = False

    def __init__(self, docker: DockerEngine, zygotes: Sandbox, uids: UserIds) -> None:
        """``zygotes`` says what zygotes are; they keep ZYGOTE_CAPABILITIES."""
        self._docker = docker
        self._zygotes = zygotes
        self._uids = uids
        self._containers: dict[str, DockerContainer] = {}

    def prepare(self) -> None:
        """Make what zygotes will need; blocks."""
        self._zygotes.prepare()

    def zygote_command(self, environment: Environment) -> list[str]:
        """Give the command of an environment's zygote, without its arguments."""
        return self._zygotes.zygote_command(environment)

    async def surround(self, launch: ServingLaunch) -> Group:
        """Start the container that this instance is to be forked into; raises LaunchFailed."""
        container = await self._docker.hold(launch)
        self._containers[launch.instance_id] = container
        return ContainerGroup(container)

    def order(self, launch: ServingLaunch, *, bounded: bool) -> dict[str, Any]:  # noqa: ARG002 - the container is
        """Give the order to become this instance."""
        return {
            "environment": dict(launch.variables),
            "model_dir": MODEL_FOLDER,
            "working_dir": "/tmp",  # noqa: S108 - the private one
            "core_bytes": launch.core_bytes,
            "memory_bytes": None,
            "view": None,
            "filtered": seccomp.is_available(),
            "guest_uid": self._uids.take(launch.instance_id),
        }

    def open_namespaces(self, launch: ServingLaunch) -> tuple[int, ...]:
        """Open the namespaces of the instance's container."""
        return tuple(open_namespaces(self._containers[launch.instance_id].pid).values())

    def open_disk(self, _launch: ServingLaunch) -> tuple[int, ...]:
        """Give nothing: the container has mounted it."""
        return ()

    async def release(self, instance_id: str) -> None:
        """End the instance's container, and wait until nothing is left of it."""
        self._uids.give_back(instance_id)
        container = self._containers.pop(instance_id, None)
        if container is not None:
            container.kill_at_once()
            await asyncio.wait([container.ended], timeout=_GONE_SECONDS)


class ContainerGroup:
    """The control groups of a container, in which its guest is."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container

    def join(self, pid: int) -> None:
        """Put a process into them; raises OSError, also where one that limits cannot be had."""
        for descriptor in open_groups_of(self._container.pid):
            try:
                os.write(descriptor, str(pid).encode())
            finally:
                os.close(descriptor)
        here, there = _groups_of(pid), _groups_of(self._container.pid)
        if here != there:
            raise OSError(f"it is not in the container's control groups: {here} instead of {there}")

    def out_of_memory_kills(self) -> int:
        """Count the processes that the kernel has killed at the memory limit."""
        return self._container.out_of_memory_kills

    def kill(self) -> None:
        """Kill the container's first process, and so, by the kernel, all that are in its process namespace."""
        self._container.kill_at_once()

    def remove(self) -> bool:
        """Do nothing: the daemon removes them with its container."""
        return True


def _groups_of(pid: int) -> dict[str, str]:
    groups = parse_own_groups(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
    return {name: group for name, group in groups.items() if name in {*CONTROLLERS, ""}}
