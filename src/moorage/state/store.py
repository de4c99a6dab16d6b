"""Transactions, and the feed of what they changed.

All writes go through one thread, so they never wait for each other's locks; reads have threads of their own. The
event loop is never blocked. ``InlineStore`` does the same work in the caller's thread: simulations run on virtual
time, which no other thread can see.

Works that wait while the disk is busy are written together: one after the other in one transaction, each in a
savepoint of its own, so that one that fails takes nothing of the others with it. The disk is waited for once for all
of them, and nobody is answered before it has them: a crash loses none that was answered.

The change feed: a statement that changes an endpoint marks its key on the connection. The *witness* sees the marks
within the same transaction and may write what is to be told of the change. After the commit, never before and never
without, the listeners are told.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from moorage.state.migrations import STEPS, Steps, migrate
from moorage.state.records import EndpointKey
from moorage.state.sqlite import open_file

T = TypeVar("T")

_READERS = 2
_TOGETHER = 64
"""Works in one transaction, at most: more would make the first ones wait for the last."""
_CHANGED = "moorage_changed"

Listener = Callable[[Iterable[EndpointKey]], None]
Witness = Callable[[Connection, frozenset[EndpointKey]], None]


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

    def call_witness(self, witness: Witness) -> None:
        """Have each transaction that changes endpoints seen by a witness before it ends, in the writer's thread."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one work."""

    result: Any = None
    fault: BaseException | None = None
    changed: frozenset[EndpointKey] = frozenset()


def _no_witness(_connection: Connection, _changed: frozenset[EndpointKey]) -> None:
    """See nothing."""


def _write_together(engine: Engine, works: Sequence[Callable[[Connection], Any]], witness: Witness) -> list[_Outcome]:
    """Do works in one transaction. When the disk does not take it, none of them has been done."""
    try:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            outcomes = [_write(connection, work, witness) for work in works]
    except Exception as fault:  # noqa: BLE001 - handed to those who asked
        return [_Outcome(fault=fault) for _ in works]
    return outcomes


def _write(connection: Connection, work: Callable[[Connection], Any], witness: Witness) -> _Outcome:
    connection.info.pop(_CHANGED, None)
    connection.exec_driver_sql("SAVEPOINT one_work")
    try:
        result = work(connection)
        changed = frozenset(connection.info.pop(_CHANGED, ()))
        if changed:
            witness(connection, changed)
    except Exception as fault:  # noqa: BLE001 - handed to the one who asked
        connection.exec_driver_sql("ROLLBACK TO one_work")
        return _Outcome(fault=fault)
    finally:
        # Fails when the database has given up the whole transaction by itself; then all of it has failed.
        connection.exec_driver_sql("RELEASE one_work")
    return _Outcome(result, changed=changed)


def _read(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return work(connection)


def _migrate(engine: Engine, steps: Steps) -> None:
    (outcome,) = _write_together(engine, [lambda connection: migrate(connection, steps)], _no_witness)
    if outcome.fault is not None:
        raise outcome.fault


@dataclass(frozen=True, slots=True)
class _Asked:
    """A work that waits for the writer."""

    work: Callable[[Connection], Any]
    answer: "asyncio.Future[Any]" = field(repr=False)


class FileStore:
    """A database file of this machine."""

    def __init__(self, path: Path, steps: Steps = STEPS) -> None:
        """Open a file whose tables ``steps`` make; by default they are those of the control plane."""
        self._engine = open_file(path, connections=1 + _READERS)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._waiting: deque[_Asked] = deque()
        self._listeners: list[Listener] = []
        self._witness: Witness = _no_witness
        _migrate(self._engine, steps)

    def __repr__(self) -> str:
        return f"<FileStore: {len(self._waiting)} works wait>"

    def listen(self, listener: Listener) -> None:
        """Tell a listener, in the event loop, which endpoints each commit has changed."""
        self._listeners.append(listener)

    def call_witness(self, witness: Witness) -> None:
        """Have each transaction that changes endpoints seen by a witness before it ends, in the writer's thread."""
        self._witness = witness

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction and wait until the disk has it; nothing of it stays when it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Asked(work, answer))
        self._writer.submit(self._write_waiting, loop)
        # A caller that goes away does not undo the commit: it must run to its end and be heard of.
        return await asyncio.shield(answer)

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what waits now, in the writer's thread; later calls find that nothing is left for them."""
        asked = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
        if asked:
            outcomes = _write_together(self._engine, [one.work for one in asked], self._witness)
            loop.call_soon_threadsafe(self._tell, asked, outcomes)

    def _tell(self, asked: Sequence[_Asked], outcomes: Sequence[_Outcome]) -> None:
        for one, outcome in zip(asked, outcomes, strict=True):
            if outcome.fault is not None:
                one.answer.set_exception(outcome.fault)
                continue
            one.answer.set_result(outcome.result)
            if outcome.changed:
                for listener in self._listeners:
                    listener(outcome.changed)

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
        self._witness: Witness = _no_witness
        _migrate(self._engine, STEPS)

    def listen(self, listener: Listener) -> None:
        """Tell a listener which endpoints each commit has changed."""
        self._listeners.append(listener)

    def call_witness(self, witness: Witness) -> None:
        """Have each transaction that changes endpoints seen by a witness before it ends."""
        self._witness = witness

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction."""
        (outcome,) = _write_together(self._engine, [work], self._witness)
        if outcome.fault is not None:
            raise outcome.fault
        if outcome.changed:
            for listener in self._listeners:
                listener(outcome.changed)
        result: T = outcome.result
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads."""
        return _read(self._engine, work)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()
