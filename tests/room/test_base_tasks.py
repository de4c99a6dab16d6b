"""The end of a process is quiet: late work is not begun, and a cancelled link is no failure."""

import asyncio
from pathlib import Path
from typing import Any

from moorage.base.link import Link, connect, listen
from moorage.base.tasks import Tasks


async def test_what_is_started_after_the_end_never_runs() -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("work")

    tasks = Tasks()
    await tasks.close()
    late = tasks.start("late", work())
    await asyncio.wait([late])
    assert (late.cancelled(), done, len(tasks)) == (True, [], 0)


async def test_a_link_that_is_cancelled_at_the_end_is_no_failure(tmp_path: Path) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    answering: list[asyncio.Task[Any] | None] = []

    async def serve(link: Link) -> None:
        answering.append(asyncio.current_task())
        async for message in link.messages():
            await link.send(message)

    server = await listen(tmp_path / "link.sock", serve)
    link = await connect(tmp_path / "link.sock")
    await link.send({"ping": 1})
    assert await link.receive() == {"ping": 1}
    (task,) = answering
    assert task is not None
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)  # its callbacks run
    await link.close()
    server.close()
    assert faults == []
