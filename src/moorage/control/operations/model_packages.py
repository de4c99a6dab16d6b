"""Model packages: models that were registered, of which a model can be made (ContainerDefinition.ModelPackageName)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from moorage.control.operations import lists
from moorage.control.operations.answers import arn_of
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import add_document, remove_document
from moorage.control.operations.model_package_groups import LAST_VERSION
from moorage.control.operations.packaged import find_registered
from moorage.control.rules import check, model_packages
from moorage.state import documents
from moorage.state.lists import Page
from moorage.state.records import Document, Kind, ResourceKey

_PENDING = "PendingManualApproval"
_UNKEPT = {"ClientToken"}
_REPLACED = (
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
    "ApprovalDescription",
    "InferenceSpecification",
    "SourceUri",
    "ModelCard",
    "ModelLifeCycle",
)
"""Members that an update sets anew."""


async def create_model_package(call: Call, request: Members) -> dict[str, Any]:
    """Register a model, by itself or as the next version of a group."""
    check(model_packages.RULES, request)
    members = {name: value for name, value in request.items() if name not in _UNKEPT}

    def record(connection: Connection) -> ResourceKey:
        if "ModelPackageGroupName" in request:
            key = _next_version(connection, call, request["ModelPackageGroupName"])
            members.setdefault("ModelApprovalStatus", _PENDING)
        else:
            key = call.resource(Kind.MODEL_PACKAGE, request["ModelPackageName"])
        add_document(connection, key, members, call.now)
        return key

    return {"ModelPackageArn": arn_of(await call.services.store.transact(record))}


def _next_version(connection: Connection, call: Call, group_name: str) -> ResourceKey:
    """Give the key of a group's next version; its number is taken from now on."""
    group = find_registered(connection, call, Kind.MODEL_PACKAGE_GROUP, group_name)
    version = group.members.get(LAST_VERSION, 0) + 1
    documents.change(connection, call.resource(group.kind, group.name), {**group.members, LAST_VERSION: version})
    return call.resource(Kind.MODEL_PACKAGE, f"{group.name}/{version}")


async def describe_model_package(call: Call, request: Members) -> dict[str, Any]:
    """Give a package back as it was registered."""
    package = await call.services.store.read(
        lambda connection: find_registered(connection, call, Kind.MODEL_PACKAGE, request["ModelPackageName"])
    )
    return {
        **package.members,
        **_identity(call, package),
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "CreatedBy": {},
    }


def _identity(call: Call, package: Document) -> dict[str, Any]:
    """Give what identifies a package, in answers of all kinds."""
    key = call.resource(Kind.MODEL_PACKAGE, package.name)
    group, slash, version = package.name.partition("/")
    named = {"ModelPackageGroupName": group, "ModelPackageVersion": int(version)} if slash else {}
    return {
        "ModelPackageName": group,
        **named,
        "ModelPackageArn": arn_of(key),
        "CreationTime": package.created_at,
        "ModelPackageStatus": "Completed",
    }


_SUMMARISED = ("ModelPackageDescription", "ModelApprovalStatus", "ModelLifeCycle", "ModelPackageRegistrationType")


async def list_model_packages(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's packages: those without a group unless others are asked for."""
    member = "ModelPackageSummaryList"
    page = lists.page_of(request, member)

    def read(connection: Connection) -> list[Document]:
        group = None
        if "ModelPackageGroupName" in request:
            group = find_registered(connection, call, Kind.MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"]).name
        return _matching(connection, call, page, _wanted(request, group))

    def summary(package: Document) -> dict[str, Any]:
        shown = {name: package.members[name] for name in _SUMMARISED if name in package.members}
        return {**shown, **_identity(call, package)}

    return lists.answer(request, member, page, await call.services.store.read(read), summary)


def _wanted(request: Members, group: str | None) -> Callable[[Document], bool]:
    """Say whether a package is asked for: by its group, else by its type; and by its approval."""
    types = {"Versioned": (True,), "Unversioned": (False,), "Both": (True, False)}
    versioned = types[request.get("ModelPackageType", "Unversioned")]
    approval = request.get("ModelApprovalStatus")

    def wanted(package: Document) -> bool:
        of, slash, _ = package.name.partition("/")
        fits = bool(slash) in versioned if group is None else bool(slash) and of == group
        return fits and approval in {None, package.members.get("ModelApprovalStatus")}

    return wanted


def _matching(connection: Connection, call: Call, page: Page, wanted: Callable[[Document], bool]) -> list[Document]:
    """Give the packages of a page that are wanted, and one more when there is another page."""
    found: list[Document] = []
    while True:
        listed = documents.page(connection, call.account, call.region, Kind.MODEL_PACKAGE, page)
        for one in listed[: page.limit]:
            package = documents.find(connection, call.resource(Kind.MODEL_PACKAGE, one.name))
            if package is not None and wanted(package):
                found.append(package)
        if len(found) > page.limit or len(listed) <= page.limit:
            return found
        last = listed[page.limit - 1]
        page = replace(page, after=(getattr(last, page.sort_by), last.name))


async def update_model_package(call: Call, request: Members) -> dict[str, Any]:
    """Approve or reject a package, or change what is said of it."""
    check(model_packages.UPDATE_RULES, request)

    def record(connection: Connection) -> ResourceKey:
        package = find_registered(connection, call, Kind.MODEL_PACKAGE, request["ModelPackageArn"])
        key = call.resource(Kind.MODEL_PACKAGE, package.name)
        documents.change(connection, key, {**_updated(package, request), "LastModifiedTime": call.now})
        return key

    return {"ModelPackageArn": arn_of(await call.services.store.transact(record))}


def _updated(package: Document, request: Members) -> dict[str, Any]:
    members = {**package.members, **{name: request[name] for name in _REPLACED if name in request}}
    properties = {**members.get("CustomerMetadataProperties", {}), **request.get("CustomerMetadataProperties", {})}
    for name in request.get("CustomerMetadataPropertiesToRemove", ()):
        properties.pop(name, None)
    added = request.get("AdditionalInferenceSpecificationsToAdd", ())
    specifications = [*members.get("AdditionalInferenceSpecifications", ()), *added]
    lasting = {"CustomerMetadataProperties": properties, "AdditionalInferenceSpecifications": specifications}
    kept = {name: value for name, value in members.items() if name not in lasting}
    return {**kept, **{name: value for name, value in lasting.items() if value}}


async def delete_model_package(call: Call, request: Members) -> dict[str, Any]:
    """Delete a package; what was deployed of it has its own copy."""

    def record(connection: Connection) -> None:
        package = find_registered(connection, call, Kind.MODEL_PACKAGE, request["ModelPackageName"])
        remove_document(connection, call.resource(Kind.MODEL_PACKAGE, package.name))

    await call.services.store.transact(record)
    return {}
