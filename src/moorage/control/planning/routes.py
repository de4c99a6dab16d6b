"""What gateways should know of an endpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.aws.arns import make_arn
from moorage.control.planning.observed import Observed
from moorage.engine.contract import MULTI_MODEL, InstanceReport, InstanceState
from moorage.routing.snapshot import Capture, Endpoint, Instance, Mode, PrefixAware, Strategy, Variant
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
    routed = [(variant.shadow, _variant(variant, mine, reports)) for variant in serving]
    if endpoint.status == EndpointStatus.CREATING:
        wanted = [variant.desired_count for variant in endpoint.variants]
        if [len(variant.instances) for _, variant in routed] != wanted:
            return None
    elif endpoint.status not in _SERVING:
        return None
    return Endpoint(
        account=endpoint.account,
        region=endpoint.region,
        name=endpoint.name,
        arn=make_arn(endpoint.region, endpoint.account, "endpoint", endpoint.name),
        variants=tuple(variant for shadow, variant in routed if not shadow),
        shadows=tuple(variant for shadow, variant in routed if shadow),
        capture=_capture(capture_in_effect(endpoint)),
    )


def is_in_force(endpoint: EndpointRecord, instances: Sequence[InstanceRecord], observed: Observed) -> bool:
    """Say whether the gateways route to exactly what can serve now."""
    if not (observed.route_in_force and observed.route is not None):
        return False
    return route_of(endpoint, instances, observed.reports) == observed.route


def routes_to_new_fleet(endpoint: EndpointRecord) -> bool:
    """Say whether traffic goes to the fleet that is to replace the old one."""
    return endpoint.deployment is not None and endpoint.deployment.stage in _SWITCHED


def capture_in_effect(endpoint: EndpointRecord) -> Mapping[str, Any] | None:
    """Give the DataCaptureConfig that belongs to the fleet which takes the traffic."""
    if endpoint.deployment is not None and routes_to_new_fleet(endpoint):
        return endpoint.deployment.capture
    return endpoint.capture


def captures(config: Mapping[str, Any]) -> bool:
    """Say whether a DataCaptureConfig asks for anything: it does unless it says otherwise."""
    return bool(config.get("EnableCapture", True))


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
    routing = variant.routing or {}
    multi_model = tuple(container.name for container in variant.containers if container.mode == MULTI_MODEL)
    several = len(variant.containers) > 1 or bool(multi_model)
    return Variant(
        name=variant.name,
        weight=variant.desired_weight,
        container=variant.containers[0].name,
        instances=tuple(ready),
        strategy=Strategy(routing.get("RoutingStrategy", Strategy.RANDOM)),
        prefix_aware=_prefix_aware(routing.get("PrefixAwareRoutingConfig")),
        # It follows from what is ready and what is desired, and so changes with one of them alone: instances that
        # are launched, start and fail before they are ready make no new snapshot.
        coming=len(ready) < variant.desired_count,
        mode=Mode(variant.execution) if several else Mode.SINGLE,
        containers=tuple(container.name for container in variant.containers) if several else (),
        multi_model=multi_model,
    )


def _prefix_aware(config: Mapping[str, Any] | None) -> PrefixAware | None:
    if config is None:
        return None
    return PrefixAware(config["PrefixLength"], config["ConcurrencyThreshold"])


def _capture(config: Mapping[str, Any] | None) -> Capture | None:
    if config is None or not captures(config):
        return None
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    types = config.get("CaptureContentTypeHeader", {})
    return Capture(
        percentage=float(config["InitialSamplingPercentage"]),
        destination=config["DestinationS3Uri"].rstrip("/"),
        inputs=not modes.isdisjoint({"Input", "InputAndOutput"}),
        outputs=not modes.isdisjoint({"Output", "InputAndOutput"}),
        csv_types=tuple(types.get("CsvContentTypes", ())),
        json_types=tuple(types.get("JsonContentTypes", ())),
        kms_key=config.get("KmsKeyId"),
    )


def _ready_address(report: InstanceReport | None) -> str | None:
    return report.address if report is not None and report.state == InstanceState.READY else None
