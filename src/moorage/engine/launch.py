"""What an engine is asked to start, and what an engine is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from moorage.engine.environments import Environment


@dataclass(frozen=True, slots=True)
class Launch:
    """One container whose environment and model are there."""

    instance_id: str
    environment: Environment
    model: Path | None
    """Folder of the extracted artefact; None: the container has no model data."""
    variables: Mapping[str, str]
    threads: int
    """Of numerical libraries."""
    memory_bytes: int
    vcpus: float
    socket: Path
    """Where the instance will answer."""
    log: Path


class LaunchFailed(Exception):
    """The container could not be started; the text is for people."""


class Engine(Protocol):
    """How a zygote and its instances are run on this machine."""

    @property
    def name(self) -> str:
        """``sandbox`` or ``process``."""

    @property
    def ends_as_one(self) -> bool:
        """The end of an instance's first process is the end of all its processes (a process namespace's promise)."""

    def prepare(self) -> None:
        """Make what zygotes will need; blocks. Called once, before the first launch."""

    def zygote_command(self, environment: Environment) -> list[str]:
        """Give the command of an environment's zygote, without its arguments."""

    def order(self, launch: Launch, *, bounded: bool) -> dict[str, Any]:
        """Give the zygote's order to fork this instance; ``bounded``: a control group limits its memory."""

    def release(self, instance_id: str) -> None:
        """Take back what an instance that has ended had."""
