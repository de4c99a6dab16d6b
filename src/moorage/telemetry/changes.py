"""What has changed about an endpoint since the last time, as events in EventBridge's shapes. Pure.

An endpoint is compared as DescribeEndpoint tells it. A change of its status makes a *SageMaker Endpoint State
Change*, a change of any VariantStatus a *SageMaker Endpoint Deployment State Change* (control-plane.md section 11).
Times within an event are in milliseconds since the epoch; ``time`` of the envelope is a date with seconds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moorage.aws.arns import make_arn
from moorage.state.events import Mark
from moorage.state.records import EndpointKey, Kind

STATE_CHANGE = "SageMaker Endpoint State Change"
DEPLOYMENT_CHANGE = "SageMaker Endpoint Deployment State Change"
NOTICE = "Moorage Endpoint Notice"
"""For people: what an endpoint's status does not tell. Moorage's own."""
DELETED = "DELETED"
"""EndpointStatus of the last event of an endpoint: Moorage's own, so that who follows learns of the end."""

_SOURCE = "aws.sagemaker"
_OWN_SOURCE = "moorage"
_PRODUCTION = "ProductionVariants"
_KINDS = (_PRODUCTION, "ShadowProductionVariants")
_WORD_BEGINS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_VARIANT_SUMMARY = (
    "VariantName",
    "CurrentWeight",
    "DesiredWeight",
    "CurrentInstanceCount",
    "DesiredInstanceCount",
    "VariantStatus",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where, when and under which names events are made."""

    key: EndpointKey
    now: float
    """Seconds since the epoch."""
    new_id: Callable[[], str]
    """Gives a UUID for an event."""


def changes(
    before: Mark | None, described: Mapping[str, Any] | None, tags: Mapping[str, str], moment: Moment
) -> tuple[Mark | None, Sequence[Mapping[str, Any]]]:
    """Give what is to be remembered of an endpoint, and the events of what has changed.

    ``before`` is what was told last; None: nothing. ``described`` is DescribeEndpoint's answer; None: it is gone.
    """
    if described is None:
        return None, [] if before is None else [_deleted(before, moment)]
    status, deployment = str(described["EndpointStatus"]), variant_statuses(described)
    events: list[Mapping[str, Any]] = []
    detail = before.detail if before is not None else {}
    if before is None or before.status != status:
        detail = _state_detail(described, tags)
        events.append(_envelope(STATE_CHANGE, detail, moment))
    if deployment != (before.deployment if before is not None else {}):
        events.append(_envelope(DEPLOYMENT_CHANGE, _deployment_detail(described, tags), moment))
    return Mark(status, deployment, detail), events


def is_news(before: Mark | None, described: Mapping[str, Any]) -> bool:
    """Say whether ``changes`` would give an event."""
    if before is None:
        return True
    return before.status != described["EndpointStatus"] or before.deployment != variant_statuses(described)


def variant_statuses(described: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give the statuses of each variant of which something is being done, those of a pending deployment apart."""
    pending = described.get("PendingDeploymentSummary") or {}
    return {
        prefix + variant["VariantName"]: [str(status["Status"]) for status in variant["VariantStatus"]]
        for prefix, summaries in (("", described), ("pending ", pending))
        for member in _KINDS
        for variant in summaries.get(member) or ()
        if variant.get("VariantStatus")
    }


def upper_snake(status: str) -> str:
    """Write a status as events do: ``InService`` is ``IN_SERVICE``."""
    return _WORD_BEGINS.sub("_", status).upper()


def _by_kind(
    described: Mapping[str, Any], show: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """Show the variants as DescribeEndpoint sorts them; shadow variants only where there are any."""
    shown = {member: [show(variant) for variant in described.get(member) or ()] for member in _KINDS}
    return {member: variants for member, variants in shown.items() if variants or member == _PRODUCTION}


def _deleted(before: Mark, moment: Moment) -> Mapping[str, Any]:
    detail = {**before.detail, "EndpointStatus": DELETED, "LastModifiedTime": _milliseconds(moment.now)}
    return _envelope(STATE_CHANGE, detail, moment)


def _state_detail(described: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    known = described if described.get(_PRODUCTION) else described.get("PendingDeploymentSummary") or {}
    return _detail(described, tags, _by_kind(known, _desired))


def _deployment_detail(described: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    summaries: dict[str, Any] = {**_by_kind(described, _summary)}
    if pending := described.get("PendingDeploymentSummary"):
        summaries["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending["EndpointConfigName"],
            "StartTime": _milliseconds(pending["StartTime"]),
            **_by_kind(pending, _summary),
        }
    return _detail(described, tags, summaries)


def _detail(described: Mapping[str, Any], tags: Mapping[str, str], variants: Mapping[str, Any]) -> dict[str, Any]:
    detail = {
        "EndpointName": described["EndpointName"],
        "EndpointArn": described["EndpointArn"],
        "EndpointConfigName": described["EndpointConfigName"],
        **variants,
        "EndpointStatus": upper_snake(str(described["EndpointStatus"])),
        "CreationTime": _milliseconds(described["CreationTime"]),
        "LastModifiedTime": _milliseconds(described["LastModifiedTime"]),
        "Tags": dict(tags),
    }
    if reason := described.get("FailureReason"):
        detail["FailureReason"] = reason
    return detail


def _desired(variant: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: variant[name] for name in ("DesiredWeight", "DesiredInstanceCount")}


def _summary(variant: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _shown(variant[name]) for name in _VARIANT_SUMMARY if variant.get(name) is not None}


def _shown(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [
        {name: _milliseconds(inner) if name == "StartTime" else inner for name, inner in status.items()}
        for status in value
    ]


def notice(message: str, moment: Moment) -> Mapping[str, Any]:
    """Make an event that tells people something of an endpoint."""
    key = moment.key
    arn = make_arn(key.region, key.account, Kind.ENDPOINT, key.name)
    detail = {"EndpointName": key.name, "EndpointArn": arn, "Message": message}
    return {**_envelope(NOTICE, detail, moment), "source": _OWN_SOURCE}


def _milliseconds(seconds: float) -> float:
    return float(round(seconds * 1000))


def _envelope(kind: str, detail: Mapping[str, Any], moment: Moment) -> Mapping[str, Any]:
    key = moment.key
    return {
        "version": "0",
        "id": moment.new_id(),
        "detail-type": kind,
        "source": _SOURCE,
        "account": key.account,
        "time": datetime.fromtimestamp(moment.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": key.region,
        "resources": [make_arn(key.region, key.account, Kind.ENDPOINT, key.name)],
        "detail": detail,
    }
