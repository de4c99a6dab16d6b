"""Instances that wait for capacity, or have a place of one of several types; reservations of capacity."""

STATEMENTS = (
    "ALTER TABLE instances ADD COLUMN instance_type VARCHAR NOT NULL DEFAULT ''",
    "ALTER TABLE instances ADD COLUMN waits_for JSON",
    "ALTER TABLE instances ADD COLUMN claimed_at FLOAT NOT NULL DEFAULT 0",
    "ALTER TABLE instances ADD COLUMN reservation VARCHAR",
    """
    CREATE TABLE reservations (
        account VARCHAR NOT NULL,
        region VARCHAR NOT NULL,
        name_key VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        instance_type VARCHAR NOT NULL,
        count INTEGER NOT NULL,
        created_at FLOAT NOT NULL,
        PRIMARY KEY (account, region, name_key)
    )
    """,
)
