"""What the node agent is told about an instance."""

from collections.abc import Mapping
from typing import Any

from moorage.control.planning.observed import Patience
from moorage.control.planning.pools import pool_of
from moorage.engine.contract import AdditionalSource, ContainerSpec, CoreDumps, InstanceSpec, ModelSource
from moorage.state.records import Container, DeployedVariant, EndpointRecord, InstanceRecord


def make_spec(endpoint: EndpointRecord, instance: InstanceRecord, patience: Patience) -> InstanceSpec:
    """Make the specification of a recorded instance from its endpoint's own copy of the model."""
    variant = variant_of(endpoint, instance)
    pool = pool_of(variant, instance)
    return InstanceSpec(
        instance_id=instance.instance_id,
        account=endpoint.account,
        region=endpoint.region,
        endpoint=endpoint.name,
        variant=variant.name,
        instance_type=pool.instance_type,
        containers=tuple(_container(container) for container in pool.containers),
        startup_timeout_seconds=patience.startup_seconds_of(variant),
        download_timeout_seconds=patience.download_seconds_of(variant),
        network_isolation=pool.network_isolation,
        volume_gib=variant.volume_gib,
        kms_key=variant.kms_key,
        core_dumps=_core_dumps(variant.core_dumps),
        shell_access=variant.shell_access,
        execution=pool.execution,
    )


def variant_of(endpoint: EndpointRecord, instance: InstanceRecord) -> DeployedVariant:
    """Give the variant that an instance belongs to; raises LookupError for an instance of none."""
    variants = endpoint.variants
    if endpoint.deployment is not None and endpoint.deployment.fleet == instance.fleet:
        variants = endpoint.deployment.variants
    for variant in variants:
        if variant.name == instance.variant:
            return variant
    raise LookupError(instance.instance_id)


def _container(container: Container) -> ContainerSpec:
    return ContainerSpec(
        name=container.name,
        image=container.image,
        environment=dict(container.environment),
        model=None if container.model is None else make_source(container.model),
        resolved_image=container.resolved_image,
        additional=tuple(
            AdditionalSource(entry["ChannelName"], make_source(entry["S3DataSource"])) for entry in container.additional
        ),
        mode=container.mode,
        caches_models=container.caches_models,
    )


def make_source(source: Mapping[str, Any]) -> ModelSource:
    """Make what the engine is told of model data that is given in the form of an S3DataSource."""
    return ModelSource(
        uri=source["S3Uri"],
        data_type=source["S3DataType"],
        compression=source["CompressionType"],
        manifest=source.get("ManifestS3Uri"),
        etag=source.get("ETag"),
        manifest_etag=source.get("ManifestEtag"),
    )


def _core_dumps(config: Mapping[str, Any] | None) -> CoreDumps | None:
    if config is None:
        return None
    return CoreDumps(config["DestinationS3Uri"].rstrip("/"), config.get("KmsKeyId"))
