"""What the node agent is told about an instance."""

from moorage.engine.contract import ContainerSpec, InstanceSpec
from moorage.state.records import EndpointRecord, InstanceRecord


def make_spec(endpoint: EndpointRecord, instance: InstanceRecord, startup_timeout_seconds: float) -> InstanceSpec:
    """Make the specification of a recorded instance from its endpoint's own copy of the model."""
    variants = endpoint.variants
    if endpoint.deployment is not None and endpoint.deployment.fleet == instance.fleet:
        variants = endpoint.deployment.variants
    variant = next(variant for variant in variants if variant.name == instance.variant)
    return InstanceSpec(
        instance_id=instance.instance_id,
        account=endpoint.account,
        region=endpoint.region,
        endpoint=endpoint.name,
        variant=variant.name,
        instance_type=variant.instance_type,
        containers=tuple(
            ContainerSpec(c.name, c.image, dict(c.environment), c.model_data_url) for c in variant.containers
        ),
        startup_timeout_seconds=startup_timeout_seconds,
    )
