"""What models and endpoint configurations have in common: documents with a unique name, and tags."""

from sqlalchemy import Connection

from moorage.control.operations.answers import already_exists, could_not_find
from moorage.control.operations.call import Members
from moorage.state import documents, tags
from moorage.state.records import Document, ResourceKey

_NAMES = ("ModelName", "EndpointConfigName")


def check_is_free(connection: Connection, key: ResourceKey) -> None:
    """Refuse a name that is taken, in whatever case."""
    if documents.find_any_case(connection, key) is not None:
        raise already_exists(key)


def find_document(connection: Connection, key: ResourceKey) -> Document:
    """Find a model or endpoint configuration, or say that there is none."""
    if (document := documents.find(connection, key)) is None:
        raise could_not_find(key)
    return document


def add_document(connection: Connection, key: ResourceKey, request: Members, now: float) -> None:
    """Record a model or endpoint configuration and its tags."""
    check_is_free(connection, key)
    members = {name: value for name, value in request.items() if name not in {"Tags", *_NAMES}}
    documents.add(connection, Document(key.account, key.region, key.kind, key.name, members, now))
    tags.put(connection, key, {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())})


def remove_document(connection: Connection, key: ResourceKey) -> None:
    """Delete a model or endpoint configuration and its tags, or say that there is none."""
    find_document(connection, key)
    documents.remove(connection, key)
    tags.remove_all(connection, key)
