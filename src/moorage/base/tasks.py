"""The only place where tasks are started: none is lost, none fails unheard.

``asyncio.create_task`` is banned elsewhere (ruff): a task that nobody holds can vanish in mid-work, and one that
fails says so only when it is collected.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one owner, held until they end; ``close`` ends them all, and what is started after it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start work under a name that the log will show if it fails."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if self._closed:  # it would find closed what it works with
            task.cancel()
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=fault)

    async def wait(self, seconds: float) -> None:
        """Wait for the end of what runs now, at most so long; cancels nothing."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Tasks: {len(self)} running>"
