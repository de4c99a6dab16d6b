"""The steps from an empty database to today's, in order; a step that has been released is never changed.

Each step is a module with ``STATEMENTS``, in SQL that SQLite and PostgreSQL both take. What has been done stands in
the table ``migrations``. A database that a newer version of Moorage has moved on is refused, not guessed at.
"""

from collections.abc import Sequence

from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select

from moorage.state.migrations import (
    m0001_first,
    m0002_deployments,
    m0003_identity,
    m0004_events,
    m0005_metrics,
    m0006_capture,
    m0007_capacity,
)

STEPS = (
    (1, m0001_first.STATEMENTS),
    (2, m0002_deployments.STATEMENTS),
    (3, m0003_identity.STATEMENTS),
    (4, m0004_events.STATEMENTS),
    (5, m0005_metrics.STATEMENTS),
    (6, m0006_capture.STATEMENTS),
    (7, m0007_capacity.STATEMENTS),
)

_DONE = Table("migrations", MetaData(), Column("number", Integer, primary_key=True))


class NewerDatabase(RuntimeError):
    """The database was written by a newer version of Moorage."""


Steps = Sequence[tuple[int, Sequence[str]]]


def migrate(connection: Connection, steps: Steps = STEPS) -> None:
    """Do the steps that have not been done yet; a store of its own has ``steps`` of its own."""
    _DONE.create(connection, checkfirst=True)
    done = set(connection.execute(select(_DONE.c.number)).scalars())
    known = {number for number, _ in steps}
    if unknown := done - known:
        message = f"the database has step {max(unknown)}, this version knows {max(known)}: use a newer Moorage"
        raise NewerDatabase(message)
    for number, statements in steps:
        if number not in done:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.execute(insert(_DONE).values(number=number))
