"""Bytes from a coroutine to a thread, a bounded number of pieces ahead of it, and from one thread to another."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from moorage.base.tasks import Tasks
from moorage.engine.interrupts import Interrupt, Interrupted

T = TypeVar("T")

_AHEAD = 4
"""Pieces that wait, of a MiB each about."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _End:
    """Behind the last piece."""

    fault: BaseException | None = None


async def feed(pieces: AsyncIterator[bytes], work: Callable[[Iterator[bytes], Interrupt], T]) -> T:
    """Do work in a thread on pieces that a coroutine fetches meanwhile.

    Raises what either raises, the other being ended first. A cancellation tells the work to end, and waits for that.
    """
    loop = asyncio.get_running_loop()
    interrupt = Interrupt()
    carried: queue.SimpleQueue[bytes | _End] = queue.SimpleQueue()
    free = asyncio.Semaphore(_AHEAD)

    def arriving() -> Iterator[bytes]:
        while not isinstance(piece := carried.get(), _End):
            loop.call_soon_threadsafe(free.release)
            yield piece
        if piece.fault is not None:
            raise piece.fault

    async def fetch() -> None:
        try:
            async for piece in pieces:
                await free.acquire()
                carried.put(piece)
        except asyncio.CancelledError:
            carried.put(_End(Interrupted()))
            raise
        except Exception as fault:  # noqa: BLE001 - the work raises it
            carried.put(_End(fault))
        else:
            carried.put(_End())

    tasks = Tasks()
    working = loop.run_in_executor(None, work, arriving(), interrupt)
    tasks.start("fetch what a thread works on", fetch())
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        interrupt.set()
        await tasks.close()
        await asyncio.gather(working, return_exceptions=True)
        raise
    finally:
        await tasks.close()


@contextmanager
def ahead(make: Callable[[], Iterable[T]]) -> Generator[Iterator[T], None, None]:
    """Have a thread make things that this one takes, a bounded number of them ahead; it has ended when this ends."""
    carried: queue.Queue[T | _End] = queue.Queue(_AHEAD)
    unwanted = threading.Event()
    producer = threading.Thread(target=_produce, args=(make, carried, unwanted), name="ahead", daemon=True)
    producer.start()
    try:
        yield _taken(carried)
    finally:
        unwanted.set()
        while producer.is_alive():
            with contextlib.suppress(queue.Empty):
                carried.get(timeout=_LOOK_SECONDS)
        producer.join()


def _produce(make: Callable[[], Iterable[T]], carried: "queue.Queue[T | _End]", unwanted: threading.Event) -> None:
    try:
        for one in make():
            carried.put(one)
            if unwanted.is_set():
                return
    except BaseException as fault:  # noqa: BLE001 - raised where the things are taken
        carried.put(_End(fault))
    else:
        carried.put(_End())


def _taken(carried: "queue.Queue[T | _End]") -> Iterator[T]:
    while not isinstance(one := carried.get(), _End):
        yield one
    if one.fault is not None:
        raise one.fault
