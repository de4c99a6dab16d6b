"""Transactions, and the feed of what they changed.

All writes go through one thread, so they never wait for each other's locks; reads have threads of their own. The
event loop is never blocked. ``InlineStore`` does the same work in the caller's thread: simulations run on virtual
time, which no other thread can see.

The change feed: a statement that changes an endpoint marks its key on the connection, and after the commit, never
before and never without, the listeners are told.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine

from moorage.state.migrations import migrate
from moorage.state.records import EndpointKey
from moorage.state.sqlite import open_file

T = TypeVar("T")

_READERS = 2
_CHANGED = "moorage_changed"

Listener = Callable[[Iterable[EndpointKey]], None]


def mark_changed(connection: Connection, key: EndpointKey) -> None:
    """Note that this transaction changes an endpoint."""
    connection.info.setdefault(_CHANGED, set()).add(key)


class Store(Protocol):
    """Where a room gets its transactions from."""

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction and wait until the disk has it; nothing of it stays when it raises."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads, on one consistent view."""

    def listen(self, listener: Listener) -> None:
        """Tell a listener, in the event loop, which endpoints each commit has changed."""


def _write(engine: Engine, work: Callable[[Connection], T]) -> tuple[T, frozenset[EndpointKey]]:
    with engine.connect().execution_options(writes=True) as connection:
        connection.info.pop(_CHANGED, None)
        with connection.begin():
            result = work(connection)
        return result, frozenset(connection.info.pop(_CHANGED, ()))


def _read(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return work(connection)


class FileStore:
    """A database file of this machine."""

    def __init__(self, path: Path) -> None:
        self._engine = open_file(path, connections=1 + _READERS)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._listeners: list[Listener] = []
        _write(self._engine, migrate)

    def listen(self, listener: Listener) -> None:
        """Tell a listener, in the event loop, which endpoints each commit has changed."""
        self._listeners.append(listener)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction and wait until the disk has it; nothing of it stays when it raises."""
        written = asyncio.get_running_loop().run_in_executor(self._writer, _write, self._engine, work)
        written.add_done_callback(self._tell)
        # A caller that goes away does not undo the commit: it must run to its end and be heard of.
        result, _changed = await asyncio.shield(written)
        return result

    def _tell(self, written: "asyncio.Future[tuple[T, frozenset[EndpointKey]]]") -> None:
        if written.cancelled() or written.exception() is not None:
            return
        _result, changed = written.result()
        if changed:
            for listener in self._listeners:
                listener(changed)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads, on one consistent view."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, _read, self._engine, work)

    def close(self) -> None:
        """Finish what has been begun and close the file."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._engine.dispose()


class InlineStore:
    """The same in the caller's thread, for simulations."""

    def __init__(self, path: Path) -> None:
        self._engine = open_file(path, connections=1)
        self._listeners: list[Listener] = []
        _write(self._engine, migrate)

    def listen(self, listener: Listener) -> None:
        """Tell a listener which endpoints each commit has changed."""
        self._listeners.append(listener)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction."""
        result, changed = _write(self._engine, work)
        if changed:
            for listener in self._listeners:
                listener(changed)
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads."""
        return _read(self._engine, work)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()
