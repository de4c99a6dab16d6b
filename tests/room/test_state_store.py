"""Transactions of the store on a real file."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import IntegrityError

from moorage.state import documents, endpoints, instances, keys, tags
from moorage.state.endpoints import ChangedMeanwhile
from moorage.state.migrations import _DONE, STEPS, NewerDatabase, migrate
from moorage.state.records import (
    Document,
    EndpointKey,
    EndpointStatus,
    KeyRecord,
    Kind,
    ResourceKey,
)
from moorage.state.sqlite import open_file
from moorage.state.store import FileStore
from moorage.state.tables import ENDPOINTS, METADATA
from moorage.testing.builders import a_deployment, a_variant, an_endpoint, an_instance

KEY = EndpointKey("000000000000", "us-east-1", "ep")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    opened = FileStore(tmp_path / "state.db")
    yield opened
    opened.close()


def a_document(name: str, kind: Kind = Kind.MODEL) -> Document:
    return Document("000000000000", "us-east-1", kind, name, {"a": [1, {"b": None}]}, 1.5)


def at(name: str, kind: Kind = Kind.MODEL) -> ResourceKey:
    return ResourceKey("000000000000", "us-east-1", kind, name)


def modes(folder: Path) -> set[int]:
    return {file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def test_file_is_private_and_every_commit_waits_for_the_disk(store: FileStore, tmp_path: Path) -> None:
    assert modes(tmp_path) == {0o600}
    settings = await store.read(
        lambda c: (c.execute(text("PRAGMA journal_mode")).scalar(), c.execute(text("PRAGMA synchronous")).scalar())
    )
    assert settings == ("wal", 2)


async def test_failed_transaction_leaves_nothing(store: FileStore) -> None:
    def work(connection: Connection) -> None:
        documents.add(connection, a_document("m"))
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(work)
    assert await store.read(lambda c: documents.find(c, at("m"))) is None


async def test_listeners_hear_of_committed_changes_only(store: FileStore) -> None:
    heard: list[EndpointKey] = []
    store.listen(heard.extend)
    endpoint = an_endpoint(status=EndpointStatus.CREATING)

    def fail(connection: Connection) -> None:
        endpoints.add(connection, endpoint)
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(fail)
    assert heard == []
    await store.transact(lambda c: documents.add(c, a_document("m")))
    assert heard == []
    await store.transact(lambda c: endpoints.add(c, endpoint))
    assert heard == [KEY]


async def test_commit_of_a_caller_that_went_away_is_still_heard(store: FileStore) -> None:
    heard: list[EndpointKey] = []
    told = asyncio.Event()

    def listen(changed: object) -> None:
        heard.extend(changed)  # type: ignore[arg-type]
        told.set()

    store.listen(listen)
    caller = asyncio.ensure_future(
        store.transact(lambda c: endpoints.add(c, an_endpoint(status=EndpointStatus.CREATING)))
    )
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait_for(told.wait(), 5)
    assert heard == [KEY]


async def test_endpoint_comes_back_as_it_was_recorded(store: FileStore) -> None:
    endpoint = an_endpoint(a_variant("a", 2, previous_weight=3.0), a_variant("b"), status=EndpointStatus.UPDATING)
    await store.transact(lambda c: endpoints.add(c, endpoint))
    assert await store.read(lambda c: endpoints.find(c, KEY)) == endpoint


async def test_endpoint_comes_back_with_its_deployment(store: FileStore) -> None:
    config = {"BlueGreenUpdatePolicy": {"TerminationWaitInSeconds": 5}}
    deployment = a_deployment(a_variant("a"), a_variant("b", 2), config=config)
    record = an_endpoint(status=EndpointStatus.UPDATING, fleet=3, deployment=deployment, deployment_config=config)
    await store.transact(lambda c: endpoints.add(c, record))
    assert await store.read(lambda c: endpoints.find(c, KEY)) == record
    assert await store.read(lambda c: endpoints.read_all(c, KEY.account, KEY.region)) == [record]
    assert await store.read(lambda c: endpoints.read_all(c, KEY.account, "eu-west-1")) == []


async def test_endpoint_comes_back_with_its_shadow_strategies_and_capture(store: FileStore) -> None:
    prefix = {"PrefixLength": 1024, "ConcurrencyThreshold": 2}
    routing = {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": prefix}
    variants = (a_variant("a", routing=routing), a_variant("s", shadow=True))
    deployment = a_deployment(*variants, capture={"EnableCapture": False})
    capture = {"InitialSamplingPercentage": 1, "CaptureOptions": [{"CaptureMode": "Input"}]}
    record = an_endpoint(*variants, status=EndpointStatus.UPDATING, deployment=deployment, capture=capture)
    await store.transact(lambda c: endpoints.add(c, record))
    assert await store.read(lambda c: endpoints.find(c, KEY)) == record


async def test_endpoint_of_the_version_before_is_read(tmp_path: Path) -> None:
    record = an_endpoint(status=EndpointStatus.UPDATING, deployment=a_deployment())
    engine = open_file(tmp_path / "state.db", connections=1)
    with engine.begin() as connection:
        _DONE.create(connection)
        for number, statements in STEPS[:4]:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.execute(insert(_DONE).values(number=number))
        connection.execute(insert(ENDPOINTS).values(name_key="ep", **without_what_is_new(asdict(record))))
    engine.dispose()
    store = FileStore(tmp_path / "state.db")
    assert await store.read(lambda c: endpoints.find(c, KEY)) == record
    store.close()


def without_what_is_new(document: dict[str, Any]) -> dict[str, Any]:
    """Take away what endpoints have had only since shadows, strategies, capture and promises, at any depth."""
    new = {
        "shadow",
        "routing",
        "capture",
        "startup_timeout_seconds",
        "download_timeout_seconds",
        "network_isolation",
        "volume_gib",
        "kms_key",
        "core_dumps",
        "shell_access",
        "machine_image",
        "pools",
        "provision_timeout_seconds",
        "reservation",
    }

    def older(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: older(v) for key, v in value.items() if key not in new}
        return [older(each) for each in value] if isinstance(value, (list, tuple)) else value

    kept: dict[str, Any] = older(document)
    return kept


async def test_change_made_from_an_old_revision_is_refused(store: FileStore) -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    await store.transact(lambda c: endpoints.add(c, endpoint))
    changed = await store.transact(lambda c: endpoints.change(c, endpoint))
    assert changed.revision == 1
    with pytest.raises(ChangedMeanwhile):
        await store.transact(lambda c: endpoints.change(c, endpoint))
    with pytest.raises(ChangedMeanwhile):
        await store.transact(lambda c: endpoints.remove(c, endpoint))
    await store.transact(lambda c: endpoints.remove(c, changed))


async def test_names_are_unique_without_case_and_found_with_it(store: FileStore) -> None:
    await store.transact(lambda c: documents.add(c, a_document("Name")))
    with pytest.raises(IntegrityError):
        await store.transact(lambda c: documents.add(c, a_document("nAME")))
    await store.transact(lambda c: documents.add(c, a_document("name", Kind.ENDPOINT_CONFIG)))
    assert await store.read(lambda c: documents.find(c, at("name"))) is None
    assert await store.read(lambda c: documents.find_any_case(c, at("name"))) == a_document("Name")
    assert await store.read(lambda c: documents.find(c, at("Name"))) == a_document("Name")


async def test_instances_are_recorded_retired_and_forgotten(store: FileStore) -> None:
    records = [an_instance("i-1"), an_instance("i-2", created_at=1.0)]
    await store.transact(lambda c: instances.add(c, records))
    await store.transact(lambda c: instances.retire(c, ["i-1"], 5.0))
    await store.transact(lambda c: instances.retire(c, ["i-1", "i-2"], 9.0))
    found = await store.read(lambda c: instances.of_endpoint(c, KEY))
    assert [(record.instance_id, record.retired_at) for record in found] == [("i-1", 5.0), ("i-2", 9.0)]
    await store.transact(lambda c: instances.remove(c, ["i-1"]))
    assert len(await store.read(lambda c: instances.of_endpoint(c, KEY))) == 1


async def test_tags_and_keys_are_kept(store: FileStore) -> None:
    await store.transact(lambda c: tags.put(c, at("M"), {"b": "1", "a": ""}))
    await store.transact(lambda c: tags.put(c, at("m"), {"b": "2"}))
    await store.transact(lambda c: tags.remove(c, at("m"), ["a", "none"]))
    assert await store.read(lambda c: tags.read(c, at("m"))) == {"b": "2"}
    key = KeyRecord("AKIA1", "secret", "000000000000", "ann", 1.0)
    await store.transact(lambda c: keys.add(c, key))
    assert await store.read(keys.read_all) == [key]
    assert "secret" not in repr(key)
    assert await store.transact(lambda c: keys.remove(c, "AKIA1"))
    assert not await store.transact(lambda c: keys.remove(c, "AKIA1"))


async def test_readers_go_on_while_a_writer_writes(store: FileStore) -> None:
    loop = asyncio.get_running_loop()
    writing, done = asyncio.Event(), asyncio.Event()

    def work(connection: Connection) -> None:
        documents.add(connection, a_document("m"))
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(done.wait(), loop).result(10)

    writer = asyncio.ensure_future(store.transact(work))
    await asyncio.wait_for(writing.wait(), 10)
    assert await store.read(lambda c: documents.find(c, at("m"))) is None
    done.set()
    await writer
    assert await store.read(lambda c: documents.find(c, at("m"))) is not None


def test_success_survives_the_death_of_the_process(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, signal
from pathlib import Path
from moorage.state import tags
from moorage.state.records import Kind, ResourceKey
from moorage.state.store import FileStore
store = FileStore(Path({str(tmp_path / "state.db")!r}))
key = ResourceKey("000000000000", "us-east-1", Kind.MODEL, "m")
asyncio.run(store.transact(lambda c: tags.put(c, key, {{"a": "1"}})))
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", program], check=False, timeout=60, env={**os.environ})
    assert died.returncode == -9
    store = FileStore(tmp_path / "state.db")
    assert asyncio.run(store.read(lambda c: tags.read(c, at("m")))) == {"a": "1"}
    store.close()


def test_migrations_make_the_tables_that_the_code_sees(tmp_path: Path) -> None:
    FileStore(tmp_path / "state.db").close()
    FileStore(tmp_path / "state.db").close()
    connection = sqlite3.connect(tmp_path / "state.db")
    for table in METADATA.sorted_tables:
        made = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")]
        assert made == [column.name for column in table.columns]
        primary = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})") if row[5]]
        assert primary == [column.name for column in table.primary_key]
    assert [row[0] for row in connection.execute("SELECT number FROM migrations")] == [n for n, _ in STEPS]
    connection.close()


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    FileStore(tmp_path / "state.db").close()
    engine = open_file(tmp_path / "state.db", connections=1)
    with engine.begin() as connection:
        connection.execute(insert(_DONE).values(number=999))
    with engine.begin() as connection, pytest.raises(NewerDatabase, match="use a newer Moorage"):
        migrate(connection)
    engine.dispose()
