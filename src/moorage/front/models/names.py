"""What models are called: by whoever invokes them, in the object store, and by the container. Pure."""

from hashlib import sha256

_NAME_LETTERS = 32


def join(prefix: str, target: str) -> str:
    """Give the URI of a model's archive: ``target`` is relative to the prefix, with one slash between them."""
    return f"{prefix.rstrip('/')}/{target.lstrip('/')}"


def opaque_name(uri: str) -> str:
    """Give the name that the container knows a model by: letters and digits, the same each time."""
    return sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_LETTERS]
