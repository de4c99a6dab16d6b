"""Metrics by the minute, and how far the gateways' messages have been written."""

STATEMENTS = (
    """
    CREATE TABLE metrics (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        namespace TEXT NOT NULL,
        metric TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        period_start BIGINT NOT NULL,
        samples BIGINT NOT NULL,
        total DOUBLE PRECISION NOT NULL,
        minimum DOUBLE PRECISION NOT NULL,
        maximum DOUBLE PRECISION NOT NULL,
        histogram TEXT NOT NULL,
        PRIMARY KEY (account, region, namespace, metric, dimensions, period_start)
    )
    """,
    "CREATE INDEX metrics_by_time ON metrics (period_start)",
    """
    CREATE TABLE metric_cursors (
        gateway TEXT NOT NULL PRIMARY KEY,
        number BIGINT NOT NULL,
        written_at DOUBLE PRECISION NOT NULL
    )
    """,
)
