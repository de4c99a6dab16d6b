"""The only module that knows SQLite: how its file is made and how its connections are set.

WAL lets readers go on while the writer writes; ``synchronous=FULL`` makes a commit wait for the disk, so that an
API success survives the loss of power. Both the write-ahead log and its index take over the file's permissions.
"""

import os
from pathlib import Path
from sqlite3 import Connection as FileConnection
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

_BUSY_SECONDS = 10.0


def open_file(path: Path, *, connections: int) -> Engine:
    """Give the engine of a database file, making the file (0600) when there is none."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: FileConnection, _record: Any) -> None:
    # The driver's own idea of when a transaction begins would leave SELECT outside of it.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    # A writer takes its lock at once: a read that turns into a write later could find the database moved on.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
