"""Works that are written together, and the witness of what they change."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from moorage.state import documents, endpoints
from moorage.state.records import Document, EndpointKey, EndpointStatus, Kind, ResourceKey
from moorage.state.store import FileStore
from moorage.testing.builders import an_endpoint


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    opened = FileStore(tmp_path / "state.db")
    yield opened
    opened.close()


def add(name: str, fault: Exception | None = None) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        documents.add(connection, Document("000000000000", "us-east-1", Kind.MODEL, name, {}, 1.0))
        if fault is not None:
            raise fault
        return name

    return work


async def names(store: FileStore) -> list[str]:
    found = await store.read(lambda c: list(c.execute(text("SELECT name FROM documents ORDER BY name")).scalars()))
    return [str(name) for name in found]


class Gate:
    """A work that holds the writer until it is opened, so that others wait behind it."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, _connection: Connection) -> None:
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


async def test_work_that_fails_takes_nothing_of_the_others_with_it(store: FileStore) -> None:
    gate = Gate()
    held = asyncio.ensure_future(store.transact(gate))
    works = [add("a"), add("b", LookupError("no")), add("c"), add("a")]
    waiting = asyncio.gather(*(store.transact(work) for work in works), return_exceptions=True)
    await asyncio.sleep(0)
    gate.open()
    await held
    first, second, third, fourth = await waiting
    assert (first, third) == ("a", "c")
    assert isinstance(second, LookupError)
    assert type(fourth).__name__ == "IntegrityError"
    assert await names(store) == ["a", "c"]


async def test_one_commit_serves_all_that_wait(store: FileStore) -> None:
    commits = []
    gate = Gate()
    held = asyncio.ensure_future(store.transact(gate))
    await asyncio.sleep(0)

    def numbered(name: str) -> Callable[[Connection], str]:
        def work(connection: Connection) -> str:
            commits.append(connection.execute(text("SELECT count(*) FROM documents")).scalar())
            return add(name)(connection)

        return work

    waiting = asyncio.gather(*(store.transact(numbered(f"n{number:03}")) for number in range(40)))
    await asyncio.sleep(0)
    gate.open()
    await held
    await waiting
    # Each saw those before it, whether or not they had been committed yet, and all are there.
    assert commits == list(range(40))
    assert len(await names(store)) == 40


async def test_works_of_a_commit_that_fails_have_all_failed(store: FileStore) -> None:
    def break_off(connection: Connection) -> None:
        add("b")(connection)
        connection.exec_driver_sql("ROLLBACK")  # as the database itself does when the disk is full

    gate = Gate()
    held = asyncio.ensure_future(store.transact(gate))
    await asyncio.sleep(0)
    waiting = asyncio.gather(*(store.transact(w) for w in (add("a"), break_off, add("c"))), return_exceptions=True)
    await asyncio.sleep(0)
    gate.open()
    await held
    assert [isinstance(answer, Exception) for answer in await waiting] == [True, True, True]
    assert await names(store) == []
    assert await store.transact(add("later")) == "later"


async def test_witness_writes_in_the_transaction_that_it_sees(store: FileStore) -> None:
    seen: list[frozenset[EndpointKey]] = []

    def witness(connection: Connection, changed: frozenset[EndpointKey]) -> None:
        seen.append(changed)
        add(f"witness-{len(seen)}")(connection)

    store.call_witness(witness)
    endpoint = an_endpoint(status=EndpointStatus.CREATING)

    def fail(connection: Connection) -> None:
        endpoints.add(connection, endpoint)
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(fail)
    await store.transact(add("plain"))
    assert seen == []
    await store.transact(lambda c: endpoints.add(c, endpoint))
    assert seen == [frozenset({endpoint.key})]
    assert await names(store) == ["plain", "witness-1"]


async def test_change_that_cannot_be_witnessed_is_not_made(store: FileStore) -> None:
    def witness(_connection: Connection, _changed: frozenset[EndpointKey]) -> None:
        raise OSError("full")

    store.call_witness(witness)
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    with pytest.raises(OSError, match="full"):
        await store.transact(lambda c: endpoints.add(c, endpoint))
    assert await store.read(lambda c: endpoints.find(c, endpoint.key)) is None


async def test_caller_that_goes_away_does_not_undo_the_commit(store: FileStore) -> None:
    gate = Gate()
    held = asyncio.ensure_future(store.transact(gate))
    await asyncio.sleep(0)
    caller = asyncio.ensure_future(store.transact(add("a")))
    await asyncio.sleep(0)
    caller.cancel()
    gate.open()
    await held
    await store.transact(add("b"))
    assert await store.read(lambda c: documents.find(c, _at("a"))) is not None


def _at(name: str) -> ResourceKey:
    return ResourceKey("000000000000", "us-east-1", Kind.MODEL, name)


WRITER = """
import asyncio, sys
from pathlib import Path
from moorage.state import documents
from moorage.state.records import Document, Kind
from moorage.state.store import FileStore

async def main() -> None:
    store = FileStore(Path(sys.argv[1]))
    async def write(writer: int) -> None:
        for number in range(10_000):
            name = f"{writer}-{number}"
            document = Document("000000000000", "us-east-1", Kind.MODEL, name, {}, 1.0)
            await store.transact(lambda connection: documents.add(connection, document))
            print(name, flush=True)
    await asyncio.gather(*(write(writer) for writer in range(16)))

asyncio.run(main())
"""


async def test_nothing_that_was_answered_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        answered = [writer.stdout.readline().strip() for _ in range(200)]
        writer.kill()
        answered += [line.strip() for line in writer.stdout if line.endswith("\n")]
    store = FileStore(path)
    assert set(answered) <= set(await names(store))
    store.close()
