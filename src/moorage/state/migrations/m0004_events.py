"""Events of endpoints, what was last told of each endpoint, and how far the events have been taken."""

STATEMENTS = (
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        recorded_at DOUBLE PRECISION NOT NULL,
        document JSON NOT NULL
    )
    """,
    "CREATE INDEX events_by_time ON events (recorded_at)",
    """
    CREATE TABLE event_marks (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        status TEXT NOT NULL,
        deployment JSON NOT NULL,
        detail JSON NOT NULL,
        PRIMARY KEY (account, region, endpoint)
    )
    """,
    """
    CREATE TABLE event_cursors (
        consumer TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        dropped INTEGER NOT NULL
    )
    """,
    "INSERT INTO event_cursors (consumer, position, dropped) VALUES ('journal', 0, 0)",
)
