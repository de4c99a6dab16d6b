"""Rules for tags (control-plane.md section 4.4)."""

from collections.abc import Mapping

from moorage.control.rules import Members

MOST_TAGS = 50


def keys_are_unique(request: Members) -> str | None:
    """Refuse the same key twice in one request."""
    keys = [tag["Key"] for tag in request.get("Tags", ())]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    return None if twice is None else f'Tag keys must be unique: "{twice}" was given more than once.'


def keys_are_not_reserved(request: Members) -> str | None:
    """Refuse keys of AWS's own."""
    reserved = next((tag["Key"] for tag in request.get("Tags", ()) if tag["Key"].lower().startswith("aws:")), None)
    return None if reserved is None else f'Tag keys that start with "aws:" are reserved: "{reserved}".'


def too_many(after: Mapping[str, str]) -> str | None:
    """Refuse more tags on one resource than it can have."""
    return f"A resource can have at most {MOST_TAGS} tags." if len(after) > MOST_TAGS else None


RULES = (keys_are_unique, keys_are_not_reserved)
