"""What gateways should know of an endpoint."""

from collections.abc import Mapping, Sequence

from moorage.aws.arns import make_arn
from moorage.control.planning.observed import Observed
from moorage.engine.contract import InstanceReport, InstanceState
from moorage.routing.snapshot import Endpoint, Instance, Variant
from moorage.state.records import DeployedVariant, EndpointRecord, EndpointStatus, InstanceRecord, Stage

_SWITCHED = frozenset({Stage.SHIFTING, Stage.BAKING, Stage.TERMINATING})
_SERVING = frozenset({EndpointStatus.IN_SERVICE, EndpointStatus.UPDATING, EndpointStatus.ROLLING_BACK})


def route_of(
    endpoint: EndpointRecord, instances: Sequence[InstanceRecord], reports: Mapping[str, InstanceReport]
) -> Endpoint | None:
    """Make the route; None when the endpoint cannot be invoked.

    An endpoint enters the routing when all its instances are ready for the first time, and from then on stays in it,
    with whichever instances are ready.
    """
    serving, fleet = _serving(endpoint)
    mine = [record for record in instances if record.fleet == fleet]
    variants = tuple(_variant(variant, mine, reports) for variant in serving)
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


def is_in_force(endpoint: EndpointRecord, instances: Sequence[InstanceRecord], observed: Observed) -> bool:
    """Say whether the gateways route to exactly what can serve now."""
    if not (observed.route_in_force and observed.route is not None):
        return False
    return route_of(endpoint, instances, observed.reports) == observed.route


def routes_to_new_fleet(endpoint: EndpointRecord) -> bool:
    """Say whether traffic goes to the fleet that is to replace the old one."""
    return endpoint.deployment is not None and endpoint.deployment.stage in _SWITCHED


def _serving(endpoint: EndpointRecord) -> tuple[tuple[DeployedVariant, ...], int]:
    """Give the variants that take the traffic, and the generation of their instances."""
    if endpoint.deployment is not None and routes_to_new_fleet(endpoint):
        return endpoint.deployment.variants, endpoint.deployment.fleet
    return endpoint.variants, endpoint.fleet


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
