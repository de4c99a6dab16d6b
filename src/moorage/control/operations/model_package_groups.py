"""Groups of model packages: the versions of one model."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from moorage.aws.errors import ClientFault
from moorage.control.operations.answers import arn_of
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import add_document, list_documents, remove_document
from moorage.control.operations.packaged import find_registered
from moorage.control.rules import check, model_packages
from moorage.state import documents
from moorage.state.lists import Page
from moorage.state.records import Document, Kind, Listed, ResourceKey

LAST_VERSION = "LastVersion"
"""Member of a group's record: the number that was given last, because none is given twice."""


async def create_model_package_group(call: Call, request: Members) -> dict[str, Any]:
    """Give the versions of a model a name."""
    check(model_packages.GROUP_RULES, request)
    key = call.resource(Kind.MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"])
    await call.services.store.transact(lambda connection: add_document(connection, key, request, call.now))
    return {"ModelPackageGroupArn": arn_of(key)}


async def describe_model_package_group(call: Call, request: Members) -> dict[str, Any]:
    """Give a group back."""
    group = await call.services.store.read(
        lambda connection: find_registered(connection, call, Kind.MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"])
    )
    shown = {name: value for name, value in group.members.items() if name != LAST_VERSION}
    summary = _summary(call.resource(group.kind, group.name), Listed(group.name, group.created_at))
    return {**shown, **summary, "CreatedBy": {}}


async def list_model_package_groups(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's groups."""
    return await list_documents(call, request, Kind.MODEL_PACKAGE_GROUP, "ModelPackageGroupSummaryList", _summary)


def _summary(key: ResourceKey, listed: Listed) -> dict[str, Any]:
    return {
        "ModelPackageGroupName": listed.name,
        "ModelPackageGroupArn": arn_of(key),
        "CreationTime": listed.created_at,
        "ModelPackageGroupStatus": "Completed",
    }


async def delete_model_package_group(call: Call, request: Members) -> dict[str, Any]:
    """Delete a group that has no versions any more."""

    def record(connection: Connection) -> None:
        group = find_registered(connection, call, Kind.MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"])
        key = call.resource(group.kind, group.name)
        if _has_versions(connection, call, group):
            raise ClientFault(
                "ConflictException", f"Model package group {arn_of(key)} cannot be deleted: it has model packages."
            )
        remove_document(connection, key)

    await call.services.store.transact(record)
    return {}


def _has_versions(connection: Connection, call: Call, group: Document) -> bool:
    page = Page(sort_by="name", descending=False, limit=1, name_contains=f"{group.name}/")
    while found := documents.page(connection, call.account, call.region, Kind.MODEL_PACKAGE, page):
        if found[0].name.startswith(f"{group.name}/"):
            return True
        page = replace(page, after=(found[0].name, found[0].name))
    return False
