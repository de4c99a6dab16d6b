"""What gateways should know of an endpoint."""

from collections.abc import Mapping, Sequence

from moorage.aws.arns import make_arn
from moorage.engine.contract import InstanceReport, InstanceState
from moorage.routing.snapshot import Endpoint, Instance, Variant
from moorage.state.records import DeployedVariant, EndpointRecord, EndpointStatus, InstanceRecord

_SERVING = frozenset({EndpointStatus.IN_SERVICE, EndpointStatus.UPDATING, EndpointStatus.ROLLING_BACK})


def route_of(
    endpoint: EndpointRecord, instances: Sequence[InstanceRecord], reports: Mapping[str, InstanceReport]
) -> Endpoint | None:
    """Make the route; None when the endpoint cannot be invoked.

    An endpoint enters the routing when all its instances are ready for the first time, and from then on stays in it,
    with whichever instances are ready.
    """
    variants = tuple(_variant(variant, instances, reports) for variant in endpoint.variants)
    if endpoint.status == EndpointStatus.CREATING:
        wanted = [variant.desired_count for variant in endpoint.variants]
        if [len(variant.instances) for variant in variants] != wanted:
            return None
    elif endpoint.status not in _SERVING:
        return None
    return Endpoint(
        account=endpoint.account,
        region=endpoint.region,
        name=endpoint.name,
        arn=make_arn(endpoint.region, endpoint.account, "endpoint", endpoint.name),
        variants=variants,
    )


def _variant(
    variant: DeployedVariant, instances: Sequence[InstanceRecord], reports: Mapping[str, InstanceReport]
) -> Variant:
    ready = [
        Instance(record.instance_id, address)
        for record in instances
        if record.variant == variant.name
        and record.retired_at is None
        and (address := _ready_address(reports.get(record.instance_id))) is not None
    ]
    return Variant(variant.name, variant.desired_weight, variant.containers[0].name, tuple(ready))


def _ready_address(report: InstanceReport | None) -> str | None:
    return report.address if report is not None and report.state == InstanceState.READY else None
