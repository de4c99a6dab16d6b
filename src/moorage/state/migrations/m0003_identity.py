"""Policies of access keys, and the secret that session tokens are made with."""

STATEMENTS = (
    "ALTER TABLE access_keys ADD COLUMN policies JSON",
    """
    CREATE TABLE secrets (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    )
    """,
)
