"""Rules for the registry of models."""

from collections.abc import Iterator, Mapping
from typing import Any

from moorage.control.rules import Members, models, tags
from moorage.control.rules.not_built import refusal

_CONTAINER = dict.fromkeys(
    (
        "ContainerHostname",
        "Image",
        "ModelDataUrl",
        "ModelDataSource",
        "Environment",
        "ModelInput",
        "Framework",
        "FrameworkVersion",
        "NearestModelName",
        "AdditionalModelDataSources",
        "ModelDataETag",
    ),
    ...,
)
_SPECIFICATION = {
    "Name": ...,
    "Description": ...,
    "Containers": _CONTAINER,
    "SupportedTransformInstanceTypes": ...,
    "SupportedRealtimeInferenceInstanceTypes": ...,
    "SupportedContentTypes": ...,
    "SupportedResponseMIMETypes": ...,
}
_DESCRIBED = dict.fromkeys(
    (
        "ModelPackageName",
        "ModelPackageGroupName",
        "ModelPackageDescription",
        "ModelPackageRegistrationType",
        "Tags",
        "ModelApprovalStatus",
        "MetadataProperties",
        "ModelMetrics",
        "ClientToken",
        "Domain",
        "Task",
        "SamplePayloadUrl",
        "CustomerMetadataProperties",
        "DriftCheckBaselines",
        "SkipModelValidation",
        "SourceUri",
        "ModelCard",
        "ModelLifeCycle",
    ),
    ...,
)
"""What is kept and given back, and has no effect on what is served."""

_BUILT = {
    **_DESCRIBED,
    "InferenceSpecification": _SPECIFICATION,
    "AdditionalInferenceSpecifications": _SPECIFICATION,
    "CertifyForMarketplace": False,
}
_UPDATE_BUILT = {
    "ModelPackageArn": ...,
    "ModelApprovalStatus": ...,
    "ModelPackageRegistrationType": ...,
    "ApprovalDescription": ...,
    "CustomerMetadataProperties": ...,
    "CustomerMetadataPropertiesToRemove": ...,
    "AdditionalInferenceSpecificationsToAdd": _SPECIFICATION,
    "InferenceSpecification": _SPECIFICATION,
    "SourceUri": ...,
    "ModelCard": ...,
    "ModelLifeCycle": ...,
    "ClientToken": ...,
}
_GROUP_BUILT = {"ModelPackageGroupName": ..., "ModelPackageGroupDescription": ..., "Tags": ...}


def one_name(request: Members) -> str | None:
    """Refuse both a name and a group, and neither; the texts are AWS's."""
    named, grouped = "ModelPackageName" in request, "ModelPackageGroupName" in request
    if named and grouped:
        return (
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one "
            "to use."
        )
    return None if named or grouped else "Missing ARN."


def containers_are_right(request: Members) -> str | None:
    """Refuse containers of which no model could be made, in the words of CreateModel."""
    return next(_wrong_containers(request), None)


def _wrong_containers(request: Members) -> Iterator[str]:
    for specification in _specifications(request):
        as_model = {"Containers": specification["Containers"]}
        for rule in _OF_CONTAINERS:
            if violation := rule(as_model):
                yield violation


def _specifications(request: Members) -> Iterator[Mapping[str, Any]]:
    if "InferenceSpecification" in request:
        yield request["InferenceSpecification"]
    yield from request.get("AdditionalInferenceSpecifications", ())
    yield from request.get("AdditionalInferenceSpecificationsToAdd", ())


_OF_CONTAINERS = (
    models.image_or_package,
    models.environment_is_small,
    models.one_source_of_data,
    models.sources_are_whole,
    models.channels_differ,
    models.artifact_is_an_archive,
)

RULES = (one_name, containers_are_right, *tags.RULES, lambda request: refusal(request, _BUILT))
UPDATE_RULES = (containers_are_right, lambda request: refusal(request, _UPDATE_BUILT))
GROUP_RULES = (*tags.RULES, lambda request: refusal(request, _GROUP_BUILT))
