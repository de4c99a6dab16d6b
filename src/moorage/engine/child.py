"""A child process of the node agent that is watched by a descriptor, and reaped by whoever has it."""

import asyncio
import contextlib
import os
import signal


class Child:
    """One process that was started by way of another, and has become this one's child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[None] = loop.create_future()
        """The process has ended, and can be reaped."""
        loop.add_reader(self._descriptor, self._die)

    def _die(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        if not self.dead.done():
            self.dead.set_result(None)

    def signal(self, number: int) -> None:
        """Send a signal; does nothing when it has ended."""
        # By the descriptor, not by the number: that may be another process's once this one is gone.
        if not self.dead.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def reap(self) -> int:
        """Take note of the dead process's exit code, and let go of it."""
        status: int = signal.SIGKILL
        # One that has not left its zygote's session yet is killed, and waited for, with that (trees.kill_below).
        with contextlib.suppress(ChildProcessError):
            _pid, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(status)

    async def end(self) -> None:
        """Kill and reap it."""
        self.signal(signal.SIGKILL)
        await self.dead
        self.reap()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: process {self.pid}{', dead' if self.dead.done() else ''}>"
