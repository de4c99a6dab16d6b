"""Rules for CreateModel (control-plane.md section 5.1)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moorage.control.rules import Members, tags
from moorage.control.rules.not_built import refusal
from moorage.objects.faults import UnusableUri
from moorage.objects.places import S3Place, parse_place

PRIMARY = "primary"
"""Name of the only container of a model."""

_MOST_ENVIRONMENT_BYTES = 32 * 1024

_SOURCE = {
    "S3Uri": ...,
    "S3DataType": ...,
    "CompressionType": ...,
    "ManifestS3Uri": ...,
    "ETag": ...,
    "ManifestEtag": ...,
    "ModelAccessConfig": {"AcceptEula": ...},
}
_CONTAINER = {
    "Image": ...,
    "ModelDataUrl": ...,
    "ModelDataSource": {"S3DataSource": _SOURCE},
    "AdditionalModelDataSources": {"ChannelName": ..., "S3DataSource": _SOURCE},
    "Environment": ...,
    "ContainerHostname": ...,
    "Mode": ...,
    "MultiModelConfig": ...,
    "ImageConfig": {"RepositoryAccessMode": ...},
}
_BUILT = {
    "ModelName": ...,
    "PrimaryContainer": _CONTAINER,
    "Containers": _CONTAINER,
    "InferenceExecutionConfig": ...,
    "ExecutionRoleArn": ...,
    "EnableNetworkIsolation": ...,
    "VpcConfig": ...,
    "Tags": ...,
}


_INSTEAD = {
    "RepositoryAuthConfig": ": the password of a registry is that of docker login, in Docker's configuration",
    "HubAccessConfig": ": there is no hub here; give the S3Uri of the model data itself",
}
"""What to do where a refused member stands for something that can be had in another way."""


def containers_of(members: Members) -> list[Mapping[str, Any]]:
    """Give a model's containers, whichever way they were given."""
    if "PrimaryContainer" in members:
        return [members["PrimaryContainer"]]
    return list(members.get("Containers", ()))


def name_of(containers: Sequence[Mapping[str, Any]], at: int) -> str:
    """Name one of a model's containers as AWS's texts and logs do; a lone one's ContainerHostname is ignored."""
    if len(containers) == 1:
        return PRIMARY
    return str(containers[at].get("ContainerHostname", f"container-{at + 1}"))


def execution_of(request: Members) -> str:
    """Say how a model's containers are invoked: ``Serial`` or ``Direct``."""
    return str(request.get("InferenceExecutionConfig", {}).get("Mode", "Serial"))


def source_of(url: str) -> dict[str, Any]:
    """Say in the form of ModelDataSource what a ModelDataUrl says."""
    return {"S3DataSource": {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}}


def _has_many(container: Mapping[str, Any]) -> bool:
    return container.get("Mode") == "MultiModel"


def many_below(url: str) -> dict[str, Any]:
    """Say where the archives of many models are: nobody else's source is both a prefix and compressed."""
    return {"S3Uri": url, "S3DataType": "S3Prefix", "CompressionType": "Gzip"}


def data_of(container: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give a container's model data in the form of an S3DataSource, whichever way it was given; None: it has none."""
    url: str | None = container.get("ModelDataUrl")
    if url is not None and _has_many(container):
        return many_below(url)
    source: Mapping[str, Any] | None = source_of(url) if url is not None else container.get("ModelDataSource")
    return dict(source["S3DataSource"]) if source else None


def one_way_of_containers(request: Members) -> str | None:
    """Refuse both PrimaryContainer and Containers, and neither."""
    if ("PrimaryContainer" in request) == bool(request.get("Containers")):
        return "Exactly one of PrimaryContainer and Containers must be specified."
    return None


def image_or_package(request: Members) -> str | None:
    """Refuse a container with both an image and a package, or with neither."""
    for container in containers_of(request):
        package = "ModelPackageName" in container
        if package and ("Image" in container or "ModelDataUrl" in container):
            return "Specify one of either Image and Model Data URL or ModelPackageName in container definition."
        if not package and "Image" not in container:
            return "Each container must have an Image or a ModelPackageName."
        if "InferenceSpecificationName" in container and not package:
            return "InferenceSpecificationName can only be specified with ModelPackageName."
    return None


def private_registry_has_a_network(request: Members) -> str | None:
    """Refuse RepositoryAccessMode Vpc without VpcConfig, and credentials without that mode."""
    for container in containers_of(request):
        config = container.get("ImageConfig", {})
        private = config.get("RepositoryAccessMode") == "Vpc"
        if private and "VpcConfig" not in request:
            return "RepositoryAccessMode Vpc requires VpcConfig."
        if "RepositoryAuthConfig" in config and not private:
            return "RepositoryAuthConfig can only be specified with RepositoryAccessMode Vpc."
    return None


def environment_is_small(request: Members) -> str | None:
    """Refuse environment variables of more than 32 KB over all containers."""
    total = sum(
        len(name.encode()) + len(value.encode())
        for container in containers_of(request)
        for name, value in container.get("Environment", {}).items()
    )
    if total > _MOST_ENVIRONMENT_BYTES:
        return "The sum of all environment variables' keys and values must not be larger than 32 KB."
    return None


def one_multi_model_container(request: Members) -> str | None:
    """Refuse several multi-model containers in one pipeline (section 3.2)."""
    modes = [container.get("Mode") for container in containers_of(request)]
    if modes.count("MultiModel") > 1:
        return "More than one container in MultiModel mode is not supported with inference pipeline."
    return None


def hostnames_fit_the_mode(request: Members) -> str | None:
    """Refuse a direct invocation of containers that have no name, and names for some of a pipeline only."""
    names = [container.get("ContainerHostname") for container in containers_of(request)]
    given = [name for name in names if name is not None]
    direct = execution_of(request) == "Direct"
    if len(names) < 2:
        return "InferenceExecutionConfig with the mode Direct requires at least two containers." if direct else None
    if direct:
        if len(set(names)) < len(names) or len(given) < len(names):
            return "Each container needs a unique ContainerHostname when the inference execution mode is Direct."
    elif given and (len(given) < len(names) or len(set(given)) < len(given)):
        return "ContainerHostname must be unique and specified for all containers of a pipeline or for none."
    return None


def one_source_of_data(request: Members) -> str | None:
    """Refuse ModelDataUrl together with a ModelDataSource that means something else."""
    for container in containers_of(request):
        url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
        if url is not None and source is not None and source != source_of(url):
            return "Only one of ModelDataUrl and ModelDataSource can be specified."
    return None


def sources_are_whole(request: Members) -> str | None:
    """Refuse a source that names nothing, or a prefix that does not end like one, or that is compressed (rule 6)."""
    for container in containers_of(request):
        if container.get("ModelDataSource") == {}:
            return "ModelDataSource must have exactly one data source: S3DataSource."
        many = [many_below(container["ModelDataUrl"])] if _has_many(container) and "ModelDataUrl" in container else []
        for source in sources_of(container):
            if source["S3DataType"] != "S3Prefix" or source in many:
                continue
            if not source["S3Uri"].endswith("/"):
                return f'S3Uri must end with "/" when S3DataType is S3Prefix: "{source["S3Uri"]}".'
            if source["CompressionType"] != "None":
                return "CompressionType must be None when S3DataType is S3Prefix."
    return None


def pins_have_something_to_pin(request: Members) -> str | None:
    """Refuse a manifest of a single object, and ETags of what has none: a prefix, a manifest that is not there."""
    for container in containers_of(request):
        for source in sources_of(container):
            is_prefix = source["S3DataType"] == "S3Prefix"
            if "ManifestS3Uri" in source and not is_prefix:
                return "ManifestS3Uri can only be specified when S3DataType is S3Prefix."
            if "ManifestEtag" in source and "ManifestS3Uri" not in source:
                return "ManifestEtag can only be specified with ManifestS3Uri."
            if "ETag" in source and is_prefix:
                return "ETag can only be specified when S3DataType is S3Object: a prefix has no ETag."
    return None


def places_can_be_read(request: Members) -> str | None:
    """Refuse URLs that cannot be, and prefixes and manifests that are in no bucket."""
    for container in containers_of(request):
        for source in sources_of(container):
            names = ("S3Uri", "ManifestS3Uri") if "ManifestS3Uri" in source else ("S3Uri",)
            for name in names:
                if violation := _unreadable(name, source[name], in_bucket=source["S3DataType"] == "S3Prefix"):
                    return violation
    return None


def _unreadable(name: str, uri: str, *, in_bucket: bool) -> str | None:
    try:
        place = parse_place(uri)
    except UnusableUri as fault:
        return f"{name} cannot be used: {fault}."
    if in_bucket and not isinstance(place, S3Place):
        return f'{name} must name a bucket of S3 when S3DataType is S3Prefix: "{uri}".'
    return None


def licenses_are_accepted(request: Members) -> str | None:
    """Refuse data whose end-user license agreement is expressly not accepted."""
    for container in containers_of(request):
        for source in sources_of(container):
            if source.get("ModelAccessConfig", {}).get("AcceptEula") is False:
                return (
                    f'ModelAccessConfig.AcceptEula must be true for the model data at "{source["S3Uri"]}" to be used.'
                )
    return None


def sources_of(container: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give all of a container's data in the form of S3DataSources, its model's first."""
    if (data := data_of(container)) is not None:
        yield data
    for holder in container.get("AdditionalModelDataSources", ()):
        if "S3DataSource" in holder:
            yield holder["S3DataSource"]


def sources_fit_the_mode(request: Members) -> str | None:
    """Refuse ModelDataSource for multi-model containers, and a cache of models for others (rules 6 and 8)."""
    for container in containers_of(request):
        multi = _has_many(container)
        if multi and "ModelDataSource" in container:
            return "ModelDataSource is not supported for containers in MultiModel mode."
        if not multi and "MultiModelConfig" in container:
            return "MultiModelConfig can only be specified for containers in MultiModel mode."
    return None


def many_models_have_a_prefix(request: Members) -> str | None:
    """Refuse a multi-model container without a place for its models."""
    for container in containers_of(request):
        if _has_many(container) and not {"ModelDataUrl", "ModelPackageName"} & container.keys():
            return "ModelDataUrl is required for containers in MultiModel mode: the common prefix of all models."
    return None


def channels_differ(request: Members) -> str | None:
    """Refuse two additional sources of one name (rule 7), and names that no folder can have."""
    for container in containers_of(request):
        names = [source["ChannelName"] for source in container.get("AdditionalModelDataSources", ())]
        if unusable := {".", ".."}.intersection(names):
            return f'ChannelName must be fit for the name of a folder: "{min(unusable)}" is not.'
        if twice := next((name for name in names if names.count(name) > 1), None):
            return f"ChannelName must be unique within AdditionalModelDataSources: {twice}."
    return None


def artifact_is_an_archive(request: Members) -> str | None:
    """Refuse model data of a single model that is not one compressed archive, and one archive of many (rule 5)."""
    for container in containers_of(request):
        url = container.get("ModelDataUrl")
        multi = container.get("Mode") == "MultiModel"
        if url is None or multi != url.endswith(".tar.gz"):
            continue
        if multi:
            return f'ModelDataUrl must be the common prefix of all models in MultiModel mode: "{url}".'
        return f'ModelDataUrl must point to a single gzip compressed tar archive (.tar.gz suffix): "{url}".'
    return None


def only_what_is_built(request: Members) -> str | None:
    """Refuse what Moorage does not do yet, by name."""
    return next(_not_built(request), None)


def _not_built(request: Members) -> Iterator[str]:
    if violation := refusal(request, _BUILT):
        hint = next((text for member, text in _INSTEAD.items() if member in violation), "")
        yield f"{violation[:-1]}{hint}."


RULES = (
    one_way_of_containers,
    image_or_package,
    private_registry_has_a_network,
    environment_is_small,
    one_multi_model_container,
    hostnames_fit_the_mode,
    one_source_of_data,
    sources_are_whole,
    pins_have_something_to_pin,
    places_can_be_read,
    licenses_are_accepted,
    sources_fit_the_mode,
    many_models_have_a_prefix,
    channels_differ,
    artifact_is_an_archive,
    *tags.RULES,
)
"""Those that need only the request. Then comes whether the name is free, then what is not built."""
