"""Rules for CreateModel (control-plane.md section 5.1)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moorage.control.rules import Members, tags
from moorage.control.rules.not_built import refusal

PRIMARY = "primary"
"""Name of the only container of a model."""

_MOST_ENVIRONMENT_BYTES = 32 * 1024

_CONTAINER = {
    "Image": ...,
    "ModelDataUrl": ...,
    "ModelDataSource": ...,  # only what ModelDataUrl says already: see one_source_of_data
    "Environment": ...,
    "ContainerHostname": ...,
    "Mode": "SingleModel",
    "ImageConfig": {"RepositoryAccessMode": "Platform"},
}
_BUILT = {
    "ModelName": ...,
    "PrimaryContainer": _CONTAINER,
    "Containers": _CONTAINER,
    "InferenceExecutionConfig": ...,
    "ExecutionRoleArn": ...,
    "EnableNetworkIsolation": ...,
    "Tags": ...,
}


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


def data_of(container: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give a container's model data in the form of an S3DataSource, whichever way it was given; None: it has none."""
    url: str | None = container.get("ModelDataUrl")
    source: Mapping[str, Any] | None = source_of(url) if url is not None else container.get("ModelDataSource")
    return None if source is None else dict(source["S3DataSource"])


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
    """Refuse a prefix that does not end like one, or that is compressed (rule 6)."""
    for container in containers_of(request):
        for source in _sources_of(container):
            if source["S3DataType"] != "S3Prefix":
                continue
            if not source["S3Uri"].endswith("/"):
                return f'S3Uri must end with "/" when S3DataType is S3Prefix: "{source["S3Uri"]}".'
            if source["CompressionType"] != "None":
                return "CompressionType must be None when S3DataType is S3Prefix."
    return None


def _sources_of(container: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for holder in (container.get("ModelDataSource", {}), *container.get("AdditionalModelDataSources", ())):
        if "S3DataSource" in holder:
            yield holder["S3DataSource"]


def sources_fit_the_mode(request: Members) -> str | None:
    """Refuse ModelDataSource for multi-model containers, and a cache of models for others (rules 6 and 8)."""
    for container in containers_of(request):
        multi = container.get("Mode") == "MultiModel"
        if multi and "ModelDataSource" in container:
            return "ModelDataSource is not supported for containers in MultiModel mode."
        if not multi and "MultiModelConfig" in container:
            return "MultiModelConfig can only be specified for containers in MultiModel mode."
    return None


def channels_differ(request: Members) -> str | None:
    """Refuse two additional sources of one name (rule 7)."""
    for container in containers_of(request):
        names = [source["ChannelName"] for source in container.get("AdditionalModelDataSources", ())]
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
        yield violation
    for container in containers_of(request):
        url = container.get("ModelDataUrl")
        if url is None and "ModelDataSource" in container:
            yield "ModelDataSource is not supported by Moorage yet: use ModelDataUrl."
        if url is not None and not url.startswith("s3://"):
            yield f'ModelDataUrl "{url}" is not supported by Moorage yet: it must be of the form s3://bucket/key.'


RULES = (
    one_way_of_containers,
    image_or_package,
    private_registry_has_a_network,
    environment_is_small,
    one_multi_model_container,
    hostnames_fit_the_mode,
    one_source_of_data,
    sources_are_whole,
    sources_fit_the_mode,
    channels_differ,
    artifact_is_an_archive,
    *tags.RULES,
)
"""Those that need only the request. Then comes whether the name is free, then what is not built."""
