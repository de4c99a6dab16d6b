"""Models (control-plane.md section 5.1)."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from moorage.aws.errors import validation_exception
from moorage.control.operations.answers import arn_of
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import (
    add_document,
    check_is_free,
    find_document,
    list_documents,
    remove_document,
)
from moorage.control.operations.packaged import with_packages
from moorage.control.planning.specs import make_source
from moorage.control.rules import check, models
from moorage.engine.contract import ModelSource
from moorage.engine.images.builtin import what_there_is
from moorage.state.records import Kind, Listed, ResourceKey


async def create_model(call: Call, request: Members) -> dict[str, Any]:
    """Give containers a name, after a look at whether they can be had."""
    check(models.RULES, request)
    key = call.resource(Kind.MODEL, request["ModelName"])

    def look(connection: Connection) -> Members:
        check_is_free(connection, key)
        return with_packages(connection, call, request)

    whole = await call.services.store.read(look)
    if whole is not request:  # a package's containers are to keep the rules too
        check(models.RULES, whole)
    check([models.only_what_is_built], whole)
    await _check_can_be_had(call, whole)
    await call.services.store.transact(lambda connection: add_document(connection, key, request, call.now))
    return {"ModelArn": arn_of(key)}


async def _check_can_be_had(call: Call, request: Members) -> None:
    """Look for images and artefacts now: what is missing never reaches an endpoint (section 5.1)."""
    for container in models.containers_of(request):
        if not call.services.has_image(container["Image"]):
            raise validation_exception(_not_found(container["Image"]))
        for source in models.sources_of(container):
            for part in _parts_of(make_source(source)):
                if not await call.services.has_data(call.account, part):
                    raise validation_exception(_no_access(part.uri, request.get("ExecutionRoleArn"), call.region))


def _parts_of(source: ModelSource) -> Iterator[ModelSource]:
    """Give what must be there: the data, and the list of what of it counts."""
    yield source
    if source.manifest is not None:
        yield ModelSource(source.manifest, compression="None")


def _no_access(url: str, role: str | None, region: str) -> str:
    if role is None:
        return f"Could not access model data at {url}. Please ensure that there is an object located at the URL."
    return (
        f'Could not access model data at {url}. Please ensure that the role "{role}" exists and that its '
        'trust relationship policy allows the action "sts:AssumeRole" for the service principal '
        '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that the '
        f"object is located in {region}. If your Model uses multiple models or uncompressed models, "
        'please ensure that the role has "s3:ListBucket" permission.'
    )


def _not_found(image: str) -> str:
    """Say in AWS's words that an image cannot be had here, and which ones there are of its repository."""
    there_is = what_there_is(image)
    return f"Requested image {image} not found." + (f" {there_is}" if there_is else "")


async def describe_model(call: Call, request: Members) -> dict[str, Any]:
    """Give a model back as it was made, with the defaults that clients read."""
    key = call.resource(Kind.MODEL, request["ModelName"])
    model = await call.services.store.read(lambda connection: find_document(connection, key))
    members = dict(model.members)
    if "PrimaryContainer" in members:
        members["PrimaryContainer"] = _with_defaults(members["PrimaryContainer"])
    if "Containers" in members:
        members["Containers"] = [_with_defaults(container) for container in members["Containers"]]
    return {
        "EnableNetworkIsolation": False,
        **members,
        "ModelName": model.name,
        "ModelArn": arn_of(key),
        "CreationTime": model.created_at,
    }


def _with_defaults(container: dict[str, Any]) -> dict[str, Any]:
    url = container.get("ModelDataUrl")
    if container.get("Mode") == "MultiModel":  # many models have no one source that could be said in this form
        url = None
    source = {"ModelDataSource": models.source_of(url)} if url is not None else {}
    return {"Mode": "SingleModel", "Environment": {}, **container, **source}


async def list_models(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's models."""
    return await list_documents(call, request, Kind.MODEL, "Models", _summary)


def _summary(key: ResourceKey, listed: Listed) -> dict[str, Any]:
    return {"ModelName": listed.name, "ModelArn": arn_of(key), "CreationTime": listed.created_at}


async def delete_model(call: Call, request: Members) -> dict[str, Any]:
    """Delete the entry; what runs has its own copy."""
    key = call.resource(Kind.MODEL, request["ModelName"])
    await call.services.store.transact(lambda connection: remove_document(connection, key))
    return {}
