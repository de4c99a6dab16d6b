"""Children of the node agent: watched by a descriptor, and reaped by whoever has them."""

import asyncio
import os
import subprocess

from moorage.engine.child import Child


async def test_exit_code_is_known_once_it_is_dead() -> None:
    process = subprocess.Popen(["sh", "-c", "exit 7"])
    child = Child(process.pid)
    async with asyncio.timeout(10):
        await child.dead
    assert child.reap() == 7
    process.returncode = 7  # it is waited for


async def test_end_of_one_that_was_killed_and_waited_for_with_its_zygotes_session_is_known() -> None:
    process = subprocess.Popen(["sleep", "3600"])
    child = Child(process.pid)
    os.kill(process.pid, 9)
    async with asyncio.timeout(10):
        await child.dead
    os.waitpid(process.pid, 0)
    process.returncode = -9
    assert child.reap() == -9
