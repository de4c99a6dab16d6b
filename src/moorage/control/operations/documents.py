"""What models, endpoint configurations and model packages have in common: a unique name, and tags."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from moorage.control.operations import lists
from moorage.control.operations.answers import already_exists, could_not_find
from moorage.control.operations.call import Call, Members
from moorage.state import documents, tags
from moorage.state.records import Document, Kind, Listed, ResourceKey

_NAMES = ("ModelName", "EndpointConfigName", "ModelPackageName", "ModelPackageGroupName")


def check_is_free(connection: Connection, key: ResourceKey) -> None:
    """Refuse a name that is taken, in whatever case."""
    if documents.find_any_case(connection, key) is not None:
        raise already_exists(key)


def find_document(connection: Connection, key: ResourceKey) -> Document:
    """Find a model or endpoint configuration, or say that there is none."""
    if (document := documents.find(connection, key)) is None:
        raise could_not_find(key)
    return document


async def list_documents(
    call: Call, request: Members, kind: Kind, member: str, summary: Callable[[ResourceKey, Listed], dict[str, Any]]
) -> dict[str, Any]:
    """List the caller's models or endpoint configurations, each shown by its summary."""
    page = lists.page_of(request, member)
    found = await call.services.store.read(
        lambda connection: documents.page(connection, call.account, call.region, kind, page)
    )
    return lists.answer(request, member, page, found, lambda one: summary(call.resource(kind, one.name), one))


def add_document(connection: Connection, key: ResourceKey, request: Members, now: float) -> None:
    """Record a model or endpoint configuration and its tags."""
    check_is_free(connection, key)
    members = {name: value for name, value in request.items() if name not in {"Tags", *_NAMES}}
    documents.add(connection, Document(key.account, key.region, key.kind, key.name, members, now))
    tags.add(connection, key, {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())})


def remove_document(connection: Connection, key: ResourceKey) -> None:
    """Delete a model or endpoint configuration and its tags, or say that there is none."""
    find_document(connection, key)
    documents.remove(connection, key)
    tags.remove_all(connection, key)
