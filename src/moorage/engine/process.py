"""The ``process`` engine: instances are ordinary processes of the user that started Moorage.

For machines without bubblewrap. It keeps what needs no namespaces: a warm start, limits by control groups where they
can be written, no way to gain privileges, an end of the whole tree. It does not hide the machine from a model's code;
``promises`` says so.
"""

import asyncio
from pathlib import Path
from typing import Any

from moorage.base.removal import remove_tree
from moorage.engine.environments import Environment
from moorage.engine.launch import LaunchFailed, ServingLaunch
from moorage.engine.sandbox import SERVING_FOLDER
from moorage.engine.volumes import Volume
from moorage.serving import seccomp


class PlainProcess:
    """Runs instances without namespaces."""

    name = "process"
    makes_rooms = False
    forks_ahead = True
    ends_as_one = False

    def __init__(self, *, scratch: Path) -> None:
        self._scratch = scratch

    def prepare(self) -> None:
        """Make the folder of empty models, and empty it; blocks."""
        remove_tree(self._scratch)
        self._scratch.mkdir(parents=True)

    def zygote_command(self, environment: Environment) -> list[str]:
        """Give the command of an environment's zygote, without its arguments."""
        return [str(environment.python), "-I", "-X", "utf8", str(SERVING_FOLDER / "__main__.py")]

    def order(self, launch: ServingLaunch, *, bounded: bool) -> dict[str, Any]:
        """Give the order to become this instance; ``bounded``: a control group limits its memory.

        Raises LaunchFailed for an isolated one: without namespaces the network is the machine's.
        """
        if launch.isolated:
            raise LaunchFailed("the engine process cannot take the network away from an instance")
        model, working = launch.model, launch.variables["HOME"]
        if launch.volume is not None:
            working = str(Volume(launch.volume).temporary)
        if model is None:
            model = self._scratch / launch.instance_id
            model.mkdir(exist_ok=True)
        return {
            "environment": dict(launch.variables),
            "model_dir": str(model),
            "working_dir": working,
            "core_bytes": launch.core_bytes,
            "memory_bytes": None if bounded else launch.memory_bytes,
            "view": None,
            "filtered": seccomp.is_available(),
        }

    async def surround(self, _launch: ServingLaunch) -> None:
        """Give nothing: control groups bound instances."""

    def open_namespaces(self, _launch: ServingLaunch) -> tuple[int, ...]:
        """Give nothing: instances have the machine's."""
        return ()

    def open_disk(self, _launch: ServingLaunch) -> tuple[int, ...]:
        """Give nothing: instances see the machine's folders as they are."""
        return ()

    async def release(self, instance_id: str) -> None:
        """Remove the instance's empty model folder."""
        await asyncio.to_thread(remove_tree, self._scratch / instance_id)
