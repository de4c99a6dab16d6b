"""Of which instance types a variant's instances may be, and what each of them then runs."""

from collections.abc import Sequence
from dataclasses import replace

from moorage.state.records import Container, DeployedVariant, InstanceRecord, Pool


def pools_of(variant: DeployedVariant) -> tuple[Pool, ...]:
    """Give a variant's pools, the best first; of a variant of one instance type, the only one."""
    if variant.pools:
        return variant.pools
    return (
        Pool(
            variant.instance_type, variant.model_name, variant.containers, variant.network_isolation, variant.execution
        ),
    )


def types_of(variant: DeployedVariant) -> tuple[str, ...]:
    """Give the instance types that a variant's instances may be of, the best first."""
    return tuple(pool.instance_type for pool in pools_of(variant))


def rank_of(variant: DeployedVariant, instance: InstanceRecord) -> int:
    """Give the number of the pool that an instance is of, from 0 for the best; of one that waits, the last."""
    types = types_of(variant)
    if instance.waits_for:
        return len(types) - 1
    return types.index(instance.instance_type) if instance.instance_type in types else 0


def pool_of(variant: DeployedVariant, instance: InstanceRecord) -> Pool:
    """Give the pool that an instance is of."""
    return pools_of(variant)[rank_of(variant, instance)]


def images_of(variant: DeployedVariant) -> list[Container]:
    """Give the containers of all pools, those of one image and digest once."""
    containers = (container for pool in pools_of(variant) for container in pool.containers)
    return list({(container.image, container.resolved_image): container for container in containers}.values())


def with_containers(variant: DeployedVariant, rank: int, containers: Sequence[Container]) -> DeployedVariant:
    """Replace the containers of the pool of this number."""
    if not variant.pools:
        return replace(variant, containers=tuple(containers))
    changed = replace(variant.pools[rank], containers=tuple(containers))
    return replace(variant, pools=(*variant.pools[:rank], changed, *variant.pools[rank + 1 :]))
