"""The node agent's side of the program that makes containers (``room``): started on first need, warm from then on."""

import asyncio
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

from moorage.engine.programs import program
from moorage.engine.rootfs.room import Order
from moorage.engine.zygote import Zygote, ZygoteGone

_ROOM = "moorage.engine.rootfs.room"
_CHECK_SECONDS = 20.0


class Maker:
    """Makes containers, by a process that waits for orders."""

    def __init__(self) -> None:
        self._process: Zygote | None = None
        self._starting = asyncio.Lock()

    async def make(self, order: Order, output: int, gate: int) -> int:
        """Make a container that waits at its gate; gives its process id. Raises LaunchFailed, OSError."""
        process = await self._started()
        try:
            return await process.fork(asdict(order), (output, gate))
        except (ZygoteGone, asyncio.CancelledError) as fault:
            # An answer that nobody waits for would be taken for the next one's: this process is of no use any more.
            if self._process is process:
                self._process = None
            await process.close()
            if isinstance(fault, ZygoteGone):
                raise OSError(f"the process that makes containers is gone: {fault}") from fault
            raise

    async def _started(self) -> Zygote:
        async with self._starting:
            if self._process is None:
                process = Zygote.start(program(_ROOM), (), dict(os.environ), subprocess.DEVNULL)
                try:
                    await process.warm()
                except ZygoteGone as fault:
                    await process.close()
                    raise OSError(f"the process that makes containers did not start: {fault}") from fault
                self._process = process
            return self._process

    async def close(self) -> None:
        """End it; containers go on."""
        if self._process is not None:
            await self._process.close()
            self._process = None


def try_rooms(images: Path) -> str:
    """Make a container of nothing, as far as to its gate; gives why that cannot be done, empty when it can. Blocks.

    ``images``: a folder of the file system that images are unpacked on.
    """
    try:
        said = subprocess.run(
            program(_ROOM, "check", images),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_SECONDS,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        return str(fault)
    return said.stdout.strip() or (said.stderr.strip().splitlines() or [""])[-1]
