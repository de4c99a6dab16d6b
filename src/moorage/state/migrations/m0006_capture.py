"""Data capture of endpoints; what else variants have learnt stands in their JSON."""

STATEMENTS = ("ALTER TABLE endpoints ADD COLUMN capture JSON",)
