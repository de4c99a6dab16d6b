"""The index of a folder store: SQLite, used from threads, by several processes at once.

WAL lets readers go on while one writes; ``synchronous=FULL`` makes a commit survive the loss of power. Writers of
one process queue at a lock instead of polling SQLite's; writers of different processes wait for SQLite's.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION = 2

_SCHEMA = """
CREATE TABLE buckets (
    name TEXT PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified_at REAL NOT NULL, description TEXT NOT NULL, checksum TEXT, encryption TEXT, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE INDEX objects_by_blob ON objects (blob);
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL, started_at REAL NOT NULL,
    description TEXT NOT NULL, algorithm TEXT, kind TEXT NOT NULL, encryption TEXT
) WITHOUT ROWID;
CREATE INDEX uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified_at REAL NOT NULL, checksum TEXT, PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE INDEX parts_by_blob ON parts (blob);
"""

_UPGRADES = {
    1: "ALTER TABLE objects ADD COLUMN encryption TEXT; ALTER TABLE uploads ADD COLUMN encryption TEXT;",
}
"""What brings the index of an older version to the next one."""

_WAIT_SECONDS = 30.0


class UnusableStore(RuntimeError):
    """The folder was written by another version of Moorage; its text is for people."""


class Database:
    """Connections to the index, one a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._of_thread = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._opening = threading.Lock()
        self._writing = threading.Lock()

    def connection(self) -> sqlite3.Connection:
        """Give this thread's connection, for single reads."""
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            with self._opening:
                connection = self._of_thread.connection = _open(self._path)
                self._all.append(connection)
        return connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read: all statements of the block see the same state."""
        connection = self.connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of the block becomes visible and durable at its end, or nothing."""
        connection = self.connection()
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close all connections; no thread may be using one."""
        with self._opening:
            for connection in self._all:
                connection.close()
            self._all.clear()
            self._of_thread = threading.local()


def _open(path: Path) -> sqlite3.Connection:
    # The change to WAL and the schema do not wait for each other in SQLite: processes take turns at a lock file.
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(lock)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    while version in _UPGRADES:
        connection.executescript(f"BEGIN; {_UPGRADES[version]} PRAGMA user_version = {version + 1}; COMMIT;")
        version += 1
    if version not in (0, _VERSION):
        raise UnusableStore(
            f"{path} has version {version}; this Moorage knows version {_VERSION}. Use the Moorage that wrote it."
        )
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
