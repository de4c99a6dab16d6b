"""Models of which a container is a registered package: finding the package, and what it stands for."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from moorage.aws.arns import parse_arn
from moorage.aws.errors import ClientFault, validation_exception
from moorage.control.operations.answers import arn_of
from moorage.control.operations.call import Call, Members
from moorage.control.rules.models import containers_of, source_of
from moorage.state import documents
from moorage.state.records import Document, Kind, ResourceKey

_TAKEN = ("Image", "ModelDataUrl", "ModelDataSource", "AdditionalModelDataSources", "ContainerHostname")
"""What a container of a model takes over from its package, beside the environment."""

_OWN = ("ContainerHostname", "Mode", "ImageConfig", "MultiModelConfig", "ContainerMetricsConfig")
"""What it may say itself."""

_SHOWN = {Kind.MODEL_PACKAGE: "ModelPackage", Kind.MODEL_PACKAGE_GROUP: "ModelPackageGroup"}


def key_of(call: Call, kind: Kind, text: str) -> ResourceKey:
    """Give the key of a package or group that is named by its name or ARN; one of somebody else is not there."""
    arn = parse_arn(text)
    if arn is None:
        return call.resource(kind, text)
    if (arn.kind, arn.account, arn.region) != (kind, call.account, call.region):
        raise _does_not_exist(kind, text)
    return call.resource(kind, arn.name)


def find_registered(connection: Connection, call: Call, kind: Kind, text: str) -> Document:
    """Find a package or group by its name or ARN, or say that there is none."""
    key = key_of(call, kind, text)
    if (found := documents.find_any_case(connection, key)) is None:
        raise _does_not_exist(kind, arn_of(key))
    return found


def _does_not_exist(kind: Kind, arn: str) -> ClientFault:
    return validation_exception(f"{_SHOWN[kind]} {arn} does not exist.")


def with_packages(connection: Connection, call: Call, model: Members) -> Members:
    """Give a model's members with each package's containers in its place; the same ones when it has no package.

    Raises ValidationException for a package that is not there, or may not be deployed.
    """
    given = containers_of(model)
    if not any("ModelPackageName" in container for container in given):
        return model
    containers = [whole for container in given for whole in _unpacked(connection, call, container)]
    others = {name: value for name, value in model.items() if name not in {"PrimaryContainer", "Containers"}}
    if len(containers) == 1:
        return {**others, "PrimaryContainer": containers[0]}
    return {**others, "Containers": containers}


def _unpacked(connection: Connection, call: Call, container: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "ModelPackageName" not in container:
        yield dict(container)
        return
    package = find_registered(connection, call, Kind.MODEL_PACKAGE, container["ModelPackageName"])
    arn = arn_of(call.resource(Kind.MODEL_PACKAGE, package.name))
    approval = package.members.get("ModelApprovalStatus")
    if "/" in package.name and approval != "Approved":  # the rule is for versions of a group only
        raise validation_exception(
            f"ModelPackage {arn} cannot be deployed because its ModelApprovalStatus is {approval}: approve it with "
            "UpdateModelPackage."
        )
    for packaged in _specification(package, arn, container.get("InferenceSpecificationName"))["Containers"]:
        taken = {name: packaged[name] for name in _TAKEN if name in packaged}
        own = {name: container[name] for name in _OWN if name in container}
        environment = {**packaged.get("Environment", {}), **container.get("Environment", {})}
        yield {**_with_etag(taken, packaged.get("ModelDataETag")), **own, "Environment": environment}


def _specification(package: Document, arn: str, name: str | None) -> Mapping[str, Any]:
    """Give the one of a package's inference specifications that is meant."""
    specification: Mapping[str, Any] | None = package.members.get("InferenceSpecification")
    if name is not None:
        others = package.members.get("AdditionalInferenceSpecifications", ())
        specification = next((other for other in others if other["Name"] == name), None)
    if specification is None:
        which = "InferenceSpecification" if name is None else f"InferenceSpecification {name}"
        raise validation_exception(f"ModelPackage {arn} has no {which}.")
    return specification


def _with_etag(container: dict[str, Any], etag: str | None) -> dict[str, Any]:
    """Pin a container's archive to the ETag that was registered."""
    url = container.get("ModelDataUrl")
    if etag is None or url is None:
        return container
    source = {"S3DataSource": {**source_of(url)["S3DataSource"], "ETag": etag}}
    return {**{name: value for name, value in container.items() if name != "ModelDataUrl"}, "ModelDataSource": source}
