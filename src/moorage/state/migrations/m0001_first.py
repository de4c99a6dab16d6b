"""Keys, documents (models and endpoint configurations), endpoints, instances and tags."""

STATEMENTS = (
    """
    CREATE TABLE access_keys (
        access_key_id TEXT PRIMARY KEY,
        secret_access_key TEXT NOT NULL,
        account TEXT NOT NULL,
        user_name TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL
    )
    """,
    """
    CREATE TABLE documents (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        kind TEXT NOT NULL,
        name_key TEXT NOT NULL,
        name TEXT NOT NULL,
        members JSON NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (account, region, kind, name_key)
    )
    """,
    "CREATE INDEX documents_by_time ON documents (account, region, kind, created_at, name)",
    "CREATE INDEX documents_by_name ON documents (account, region, kind, name)",
    """
    CREATE TABLE endpoints (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name_key TEXT NOT NULL,
        name TEXT NOT NULL,
        config_name TEXT NOT NULL,
        variants JSON NOT NULL,
        status TEXT NOT NULL,
        failure_reason TEXT,
        created_at DOUBLE PRECISION NOT NULL,
        modified_at DOUBLE PRECISION NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (account, region, name_key)
    )
    """,
    "CREATE INDEX endpoints_by_time ON endpoints (account, region, created_at, name)",
    """
    CREATE TABLE instances (
        instance_id TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        variant TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        retired_at DOUBLE PRECISION
    )
    """,
    "CREATE INDEX instances_by_endpoint ON instances (account, region, endpoint)",
    """
    CREATE TABLE tags (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        kind TEXT NOT NULL,
        name_key TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (account, region, kind, name_key, key)
    )
    """,
)
