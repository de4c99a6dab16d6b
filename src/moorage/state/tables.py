"""The tables as this version of the code sees them; ``migrations`` makes them.

``name_key`` is the name in lower case: names keep their case, and are unique without it (control-plane.md
section 4.1). Nested values that are only ever read whole are JSON.
"""

from sqlalchemy import JSON, BigInteger, Column, Float, Integer, MetaData, String, Table

METADATA = MetaData()

KEYS = Table(
    "access_keys",
    METADATA,
    Column("access_key_id", String, primary_key=True),
    Column("secret_access_key", String, nullable=False),
    Column("account", String, nullable=False),
    Column("user_name", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("policies", JSON),
)

SECRETS = Table(
    "secrets",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("account", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("name_key", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("members", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

ENDPOINTS = Table(
    "endpoints",
    METADATA,
    Column("account", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("name_key", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("config_name", String, nullable=False),
    Column("variants", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("failure_reason", String),
    Column("created_at", Float, nullable=False),
    Column("modified_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("fleet", Integer, nullable=False),
    Column("deployment", JSON(none_as_null=True)),
    Column("deployment_config", JSON(none_as_null=True)),
    Column("capture", JSON(none_as_null=True)),
)

INSTANCES = Table(
    "instances",
    METADATA,
    Column("instance_id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("region", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("retired_at", Float),
    Column("fleet", Integer, nullable=False),
    Column("instance_type", String, nullable=False),
    Column("waits_for", JSON(none_as_null=True)),
    Column("claimed_at", Float, nullable=False),
    Column("reservation", String),
)

RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("account", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("name_key", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("instance_type", String, nullable=False),
    Column("count", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
)

TAGS = Table(
    "tags",
    METADATA,
    Column("account", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("name_key", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("position", Integer, primary_key=True),
    Column("account", String, nullable=False),
    Column("region", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("recorded_at", Float, nullable=False),
    Column("document", JSON, nullable=False),
)

EVENT_MARKS = Table(
    "event_marks",
    METADATA,
    Column("account", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("endpoint", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("deployment", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
)

EVENT_CURSORS = Table(
    "event_cursors",
    METADATA,
    Column("consumer", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("dropped", Integer, nullable=False),
)

METRICS = Table(
    "metrics",
    METADATA,
    Column("account", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("namespace", String, primary_key=True),
    Column("metric", String, primary_key=True),
    Column("dimensions", String, primary_key=True),
    Column("period_start", BigInteger, primary_key=True),
    Column("samples", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
    Column("minimum", Float, nullable=False),
    Column("maximum", Float, nullable=False),
    Column("histogram", String, nullable=False),
)

METRIC_CURSORS = Table(
    "metric_cursors",
    METADATA,
    Column("gateway", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("written_at", Float, nullable=False),
)
