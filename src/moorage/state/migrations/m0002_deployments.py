"""Fleets and deployments, and indexes that hold all that a list shows, whatever its order."""

STATEMENTS = (
    "ALTER TABLE endpoints ADD COLUMN fleet INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE endpoints ADD COLUMN deployment JSON",
    "ALTER TABLE endpoints ADD COLUMN deployment_config JSON",
    "ALTER TABLE instances ADD COLUMN fleet INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX documents_by_name",
    "CREATE INDEX documents_by_name ON documents (account, region, kind, name, created_at)",
    "CREATE INDEX endpoints_by_name ON endpoints (account, region, name)",
    "CREATE INDEX endpoints_by_status ON endpoints (account, region, status, name)",
)
