"""What DescribeEndpoint tells of an endpoint (control-plane.md sections 6.3 to 6.5)."""

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.aws.arns import make_arn
from moorage.engine.contract import ENDED, InstanceReport, InstanceState
from moorage.routing.snapshot import Endpoint
from moorage.state.records import DeployedVariant, EndpointRecord, EndpointStatus, InstanceRecord


def describe(
    endpoint: EndpointRecord,
    instances: Sequence[InstanceRecord],
    reports: Mapping[str, InstanceReport] | None,
    route: Endpoint | None,
) -> dict[str, Any]:
    """Make the answer of DescribeEndpoint.

    ``reports`` is None as long as the node agent has not said what runs: then what is routed to is believed to run.
    """
    if reports is None:
        reports = _believed(route)
    summaries = [_variant_summary(endpoint, variant, instances, reports, route) for variant in endpoint.variants]
    answer: dict[str, Any] = {
        "EndpointName": endpoint.name,
        "EndpointArn": make_arn(endpoint.region, endpoint.account, "endpoint", endpoint.name),
        "EndpointConfigName": endpoint.config_name,
        "EndpointStatus": endpoint.status,
        "FailureReason": endpoint.failure_reason,
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.modified_at,
    }
    if endpoint.status == EndpointStatus.CREATING:
        # Before an endpoint serves there is only what is to come (section 6.3).
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": endpoint.config_name,
            "StartTime": endpoint.created_at,
            "ProductionVariants": [
                {**summary, "InstanceType": variant.instance_type}
                for summary, variant in zip(summaries, endpoint.variants, strict=True)
            ],
        }
    else:
        answer["ProductionVariants"] = summaries
    return answer


def _believed(route: Endpoint | None) -> dict[str, InstanceReport]:
    if route is None:
        return {}
    return {
        instance.instance_id: InstanceReport(
            instance.instance_id, route.name, variant.name, InstanceState.READY, since=0.0
        )
        for variant in route.variants
        for instance in variant.instances
    }


def _variant_summary(
    endpoint: EndpointRecord,
    variant: DeployedVariant,
    instances: Sequence[InstanceRecord],
    reports: Mapping[str, InstanceReport],
    route: Endpoint | None,
) -> dict[str, Any]:
    mine = [instance for instance in instances if instance.variant == variant.name]
    current = sum(1 for instance in mine if _is_in_service(instance, reports))
    weights = {routed.name: routed.weight for routed in route.variants} if route is not None else {}
    status = variant_status(endpoint, variant, current, _still_there(mine, reports))
    return {
        "VariantName": variant.name,
        "DeployedImages": _deployed_images(variant),
        "CurrentWeight": weights.get(variant.name, variant.desired_weight),
        "DesiredWeight": variant.desired_weight,
        "CurrentInstanceCount": current,
        "DesiredInstanceCount": variant.desired_count,
        "VariantStatus": status,
    }


def _is_in_service(instance: InstanceRecord, reports: Mapping[str, InstanceReport]) -> bool:
    report = reports.get(instance.instance_id)
    return instance.retired_at is None and report is not None and report.state == InstanceState.READY


def _still_there(mine: Sequence[InstanceRecord], reports: Mapping[str, InstanceReport]) -> int:
    running = [reports[i.instance_id] for i in mine if i.instance_id in reports]
    return sum(1 for report in running if report.state not in ENDED)


def _deployed_images(variant: DeployedVariant) -> list[dict[str, Any]] | None:
    """List the images that run; None until one has been resolved."""
    images = [
        {
            "SpecifiedImage": container.image,
            "ResolvedImage": container.resolved_image,
            "ResolutionTime": container.resolved_at,
        }
        for container in variant.containers
        if container.resolved_image is not None
    ]
    return images or None


def variant_status(
    endpoint: EndpointRecord, variant: DeployedVariant, current: int, still_there: int
) -> list[dict[str, Any]] | None:
    """Say what is being done to a variant, in AWS's words; None when nothing is (section 6.4)."""
    wanted = variant.desired_count
    match endpoint.status:
        case EndpointStatus.CREATING:
            status, message = "Creating", f"Launching {wanted - current} instance(s)."
        case EndpointStatus.DELETING:
            status, message = "Deleting", f"Terminating {still_there} instance(s)."
        case EndpointStatus.UPDATING if current < wanted:
            status, message = "Updating", f"Scaling out desired instance count to {wanted}."
        case EndpointStatus.UPDATING | EndpointStatus.ROLLING_BACK if still_there > wanted:
            status, message = "Deleting", f"Terminating {still_there - wanted} instance(s)."
        case _:
            return None
    return [{"Status": status, "StatusMessage": message, "StartTime": endpoint.modified_at}]
