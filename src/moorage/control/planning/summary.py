"""What DescribeEndpoint tells of an endpoint (control-plane.md sections 6.3 to 6.5)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorage.aws.arns import make_arn
from moorage.control.planning.deployment import termination_wait_of
from moorage.control.planning.pools import images_of
from moorage.control.planning.routes import capture_in_effect, captures, routes_to_new_fleet
from moorage.engine.contract import ENDED, InstanceReport, InstanceState
from moorage.routing.snapshot import Endpoint
from moorage.state.records import DeployedVariant, Deployment, EndpointRecord, EndpointStatus, InstanceRecord, Stage


@dataclass(frozen=True, slots=True)
class Reservation:
    """How much of a reservation is used."""

    total: int
    used: int
    """By all endpoints."""


_NO_RESERVATIONS: Mapping[str, Reservation] = {}


def describe(
    endpoint: EndpointRecord,
    instances: Sequence[InstanceRecord],
    reports: Mapping[str, InstanceReport] | None,
    route: Endpoint | None,
    reservations: Mapping[str, Reservation] = _NO_RESERVATIONS,
) -> dict[str, Any]:
    """Make the answer of DescribeEndpoint.

    ``reports`` is None as long as the node agent has not said what runs: then what is routed to is believed to run.
    ``reservations`` are those that its variants name, by ARN.
    """
    seen = _Seen(instances, _believed(route) if reports is None else reports, route, reservations)
    answer: dict[str, Any] = {
        "EndpointName": endpoint.name,
        "EndpointArn": make_arn(endpoint.region, endpoint.account, "endpoint", endpoint.name),
        "EndpointConfigName": endpoint.config_name,
        "EndpointStatus": endpoint.status,
        "FailureReason": endpoint.failure_reason,
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.modified_at,
        "LastDeploymentConfig": endpoint.deployment_config,
    }
    if (capture := capture_in_effect(endpoint)) is not None:
        answer["DataCaptureConfig"] = _capture(capture, route)
    if endpoint.status == EndpointStatus.CREATING:
        # Before an endpoint serves there is only what is to come (section 6.3).
        pending = [_present(endpoint, variant, seen) for variant in endpoint.variants]
        answer["PendingDeploymentSummary"] = _pending(
            endpoint.config_name, endpoint.created_at, endpoint.variants, pending
        )
        return answer
    answer |= _by_kind(endpoint.variants, [_present(endpoint, variant, seen) for variant in endpoint.variants])
    if (deployment := endpoint.deployment) is not None:
        pending = [_replacing(endpoint, deployment, variant, seen) for variant in deployment.variants]
        answer["PendingDeploymentSummary"] = _pending(
            deployment.config_name, deployment.started_at, deployment.variants, pending
        )
    return answer


def _by_kind(
    variants: Sequence[DeployedVariant], summaries: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Give the summaries of production variants and, if there are any, those of shadow variants."""
    both = list(zip(variants, summaries, strict=True))
    production = [summary for variant, summary in both if not variant.shadow]
    shadows = [summary for variant, summary in both if variant.shadow]
    return {"ProductionVariants": production, **({"ShadowProductionVariants": shadows} if shadows else {})}


def _capture(config: Mapping[str, Any], route: Endpoint | None) -> dict[str, Any]:
    """Sum up the data capture in effect; it has started when the gateways are told of it."""
    started = route is not None and route.capture is not None
    return {
        "EnableCapture": captures(config),
        "CaptureStatus": "Started" if started else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),  # required by the model, also where nothing is encrypted
    }


def _pending(
    config_name: str, started_at: float, variants: Sequence[DeployedVariant], summaries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    typed = [_typed(variant, summary) for summary, variant in zip(summaries, variants, strict=True)]
    return {"EndpointConfigName": config_name, "StartTime": started_at, **_by_kind(variants, typed)}


def _typed(variant: DeployedVariant, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Say of what type a variant is that is to come; its reservation is told once it has come."""
    told = {name: value for name, value in summary.items() if name != "CapacityReservationConfig"}
    return told if variant.pools else {**told, "InstanceType": variant.instance_type}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is there of an endpoint."""

    instances: Sequence[InstanceRecord]
    reports: Mapping[str, InstanceReport]
    route: Endpoint | None
    reservations: Mapping[str, Reservation]

    def in_service(self, variant: str, fleet: int) -> int:
        """Count the instances of a variant that take invocations."""
        return sum(self.types_in_service(variant, fleet).values())

    def types_in_service(self, variant: str, fleet: int) -> Counter[str]:
        """Count the instances of a variant that take invocations, by type."""
        mine = [(i, self.reports.get(i.instance_id)) for i in self._of(variant, fleet) if i.retired_at is None]
        ready = [i for i, report in mine if report is not None and report.state == InstanceState.READY]
        return Counter(instance.instance_type for instance in ready)

    def reserved(self, arn: str) -> int:
        """Count the places of a reservation that instances of this endpoint have."""
        return sum(1 for i in self.instances if i.reservation == arn and not i.waits_for)

    def there(self, variant: str, fleet: int) -> int:
        """Count the instances of a variant that run in whatever state."""
        mine = [self.reports.get(i.instance_id) for i in self._of(variant, fleet)]
        return sum(1 for report in mine if report is not None and report.state not in ENDED)

    def _of(self, variant: str, fleet: int) -> list[InstanceRecord]:
        return [i for i in self.instances if (i.variant, i.fleet) == (variant, fleet)]

    def weight(self, variant: DeployedVariant) -> float:
        """Give the weight by which the gateways route to a variant."""
        routed = (*self.route.variants, *self.route.shadows) if self.route is not None else ()
        return {one.name: one.weight for one in routed}.get(variant.name, variant.desired_weight)


def _believed(route: Endpoint | None) -> dict[str, InstanceReport]:
    if route is None:
        return {}
    return {
        instance.instance_id: InstanceReport(
            instance.instance_id, route.name, variant.name, InstanceState.READY, since=0.0
        )
        for variant in (*route.variants, *route.shadows)
        for instance in variant.instances
    }


def _present(endpoint: EndpointRecord, variant: DeployedVariant, seen: _Seen) -> dict[str, Any]:
    """Sum up a variant of the fleet that an endpoint has, or is to have first."""
    current, there = seen.in_service(variant.name, endpoint.fleet), seen.there(variant.name, endpoint.fleet)
    weight = 0.0 if routes_to_new_fleet(endpoint) else seen.weight(variant)
    status = variant_status(endpoint, variant, current, there)
    return _summary(variant, endpoint.fleet, weight, status, seen)


def _replacing(
    endpoint: EndpointRecord, deployment: Deployment, variant: DeployedVariant, seen: _Seen
) -> dict[str, Any]:
    """Sum up a variant of the fleet that is to replace another."""
    current, there = seen.in_service(variant.name, deployment.fleet), seen.there(variant.name, deployment.fleet)
    weight = seen.weight(variant) if routes_to_new_fleet(endpoint) else 0.0
    status = pending_status(deployment, variant, current, there)
    return _summary(variant, deployment.fleet, weight, status, seen)


def _summary(
    variant: DeployedVariant, fleet: int, weight: float, status: list[dict[str, Any]] | None, seen: _Seen
) -> dict[str, Any]:
    return {
        "VariantName": variant.name,
        "DeployedImages": _deployed_images(variant),
        "CurrentWeight": weight,
        "DesiredWeight": variant.desired_weight,
        "CurrentInstanceCount": seen.in_service(variant.name, fleet),
        "DesiredInstanceCount": variant.desired_count,
        "InstancePools": _pools(variant, seen.types_in_service(variant.name, fleet)),
        "VariantStatus": status,
        "RoutingConfig": variant.routing,
        "CapacityReservationConfig": _reservation(variant, seen),
    }


def _pools(variant: DeployedVariant, types: Mapping[str, int]) -> list[dict[str, Any]] | None:
    """Say how many instances there are of each pool; None for a variant of one instance type."""
    return [
        {"InstanceType": pool.instance_type, "CurrentInstanceCount": types.get(pool.instance_type, 0)}
        for pool in variant.pools
    ] or None


def _reservation(variant: DeployedVariant, seen: _Seen) -> dict[str, Any] | None:
    """Sum up the reservation that a variant names; its counts are left out where nobody knows them."""
    if variant.reservation is None or not variant.reservation:
        return None
    arn = variant.reservation["MlReservationArn"]
    if (known := seen.reservations.get(arn)) is None:
        return dict(variant.reservation)
    return {
        **variant.reservation,
        "TotalInstanceCount": known.total,
        "AvailableInstanceCount": max(0, known.total - known.used),
        "UsedByCurrentEndpoint": seen.reserved(arn),
        "Ec2CapacityReservations": [],
    }


def _deployed_images(variant: DeployedVariant) -> list[dict[str, Any]] | None:
    """List the images that run; None until one has been resolved."""
    images = [
        {
            "SpecifiedImage": container.image,
            "ResolvedImage": container.resolved_image,
            "ResolutionTime": container.resolved_at,
        }
        for container in images_of(variant)
        if container.resolved_image is not None
    ]
    return images or None


def variant_status(
    endpoint: EndpointRecord, variant: DeployedVariant, current: int, there: int
) -> list[dict[str, Any]] | None:
    """Say what is being done to a variant, in AWS's words; None when nothing is (section 6.4)."""
    wanted = variant.desired_count
    if endpoint.deployment is not None:
        if endpoint.deployment.stage != Stage.TERMINATING:
            return None
        return _status("Deleting", f"Terminating {there} instance(s).", endpoint.deployment.stage_since)
    match endpoint.status:
        case EndpointStatus.CREATING:
            status, message = "Creating", f"Launching {wanted - current} instance(s)."
        case EndpointStatus.DELETING:
            status, message = "Deleting", f"Terminating {there} instance(s)."
        case EndpointStatus.UPDATING if current < wanted:
            status, message = "Updating", f"Scaling out desired instance count to {wanted}."
        case EndpointStatus.UPDATING | EndpointStatus.ROLLING_BACK if there > wanted:
            status, message = "Deleting", f"Terminating {there - wanted} instance(s)."
        case _:
            return None
    return _status(status, message, endpoint.modified_at)


def pending_status(
    deployment: Deployment, variant: DeployedVariant, current: int, there: int
) -> list[dict[str, Any]] | None:
    """Say the same of a variant of the fleet that is to replace another."""
    wanted, wait = variant.desired_count, termination_wait_of(deployment)
    match deployment.stage:
        case Stage.LAUNCHING:
            status, message = "Creating", f"Launching {wanted - current} instance(s)."
        case Stage.SHIFTING:
            status, message = "ActivatingTraffic", f"Activating traffic on full capacity of {wanted} instance(s)."
        case Stage.BAKING:
            status = "Baking"
            message = (
                f"Baking for {wait} seconds (TerminationWaitInSeconds) with traffic enabled on full capacity of "
                f"{wanted} instance(s)."
            )
        case Stage.ABANDONING:
            status, message = "Deleting", f"Terminating {there} instance(s)."
        case _:
            return None
    return _status(status, message, deployment.stage_since)


def _status(status: str, message: str, since: float) -> list[dict[str, Any]]:
    return [{"Status": status, "StatusMessage": message, "StartTime": since}]
