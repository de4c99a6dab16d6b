"""Changes of endpoints that serve (control-plane.md section 5.3): to other configurations, weights or capacities."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from moorage.control.operations.answers import endpoint_arn
from moorage.control.operations.call import Call, Members
from moorage.control.operations.deployed import (
    check_can_change,
    check_quotas,
    copy_variants,
    find_config,
    find_endpoint,
)
from moorage.control.planning import quotas
from moorage.control.planning.retention import retain
from moorage.control.planning.status import Event, follow
from moorage.control.rules import check
from moorage.control.rules import endpoints as rules
from moorage.state import endpoints
from moorage.state.records import DeployedVariant, Deployment, Document, EndpointRecord, Stage


async def update_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Ask for the fleet of another configuration, which replaces the one that serves once it is whole."""
    check(rules.UPDATE_RULES, request)
    key = call.endpoint(request["EndpointName"])

    def record(connection: Connection) -> None:
        endpoint = find_endpoint(connection, call, key)
        config = find_config(connection, call, request["EndpointConfigName"])
        current = find_config(connection, call, endpoint.config_name)
        check_can_change(endpoint)
        _check_kinds(request, current, config)
        variants = copy_variants(connection, call, config)
        if request.get("RetainAllVariantProperties"):
            variants = retain(endpoint.variants, variants, _excluded(request))
        counts = [variant.desired_count for variant in variants if not variant.shadow]
        check([lambda members: rules.steps_fit(members, counts), rules.only_what_update_builds], request)
        check_quotas(connection, call, quotas.usage_of(variants))
        endpoints.change(connection, _begin(endpoint, config, variants, request, call.now))

    await call.services.store.transact(record)
    return {"EndpointArn": endpoint_arn(key)}


def _check_kinds(request: Members, current: Document, config: Document) -> None:
    before, after = (document.members["ProductionVariants"] for document in (current, config))
    check([lambda _members: rules.kind_can_change(before, after)], request)


def _excluded(request: Members) -> set[str]:
    return {item["VariantPropertyType"] for item in request.get("ExcludeRetainedVariantProperties", ())}


def _begin(
    endpoint: EndpointRecord,
    config: Document,
    variants: tuple[DeployedVariant, ...],
    request: Members,
    now: float,
) -> EndpointRecord:
    retained = request.get("RetainDeploymentConfig", False)
    deployment = Deployment(
        config_name=config.name,
        variants=variants,
        fleet=endpoint.fleet + 1,
        stage=Stage.LAUNCHING,
        started_at=now,
        stage_since=now,
        config=endpoint.deployment_config if retained else request.get("DeploymentConfig"),
        # Never retained: it is no property of a variant (section 5.3, rule 8).
        capture=config.members.get("DataCaptureConfig"),
    )
    return replace(_changing(endpoint, now), deployment=deployment)


def _changing(endpoint: EndpointRecord, now: float) -> EndpointRecord:
    status = follow(endpoint.status, Event.UPDATE_REQUESTED)
    return replace(endpoint, status=status, failure_reason=None, modified_at=now)


async def update_endpoint_weights_and_capacities(call: Call, request: Members) -> dict[str, Any]:
    """Ask for other shares of traffic, other numbers of instances, or both; what fails is rolled back."""
    check(rules.WEIGHTS_RULES, request)
    key = call.endpoint(request["EndpointName"])
    asked = {item["VariantName"]: item for item in request["DesiredWeightsAndCapacities"]}

    def record(connection: Connection) -> None:
        endpoint = find_endpoint(connection, call, key)
        check([lambda members: rules.variants_are_known(members, endpoint)], request)
        check_can_change(endpoint)
        check([rules.capacity_is_not_zero, rules.concurrency_is_for_serverless], request)
        check([rules.only_what_weights_build], request)
        variants = tuple(_ask(variant, asked.get(variant.name, {})) for variant in endpoint.variants)
        check_quotas(connection, call, quotas.growth(endpoint.variants, variants))
        endpoints.change(connection, replace(_changing(endpoint, call.now), variants=variants))

    await call.services.store.transact(record)
    return {"EndpointArn": endpoint_arn(key)}


def _ask(variant: DeployedVariant, item: Members) -> DeployedVariant:
    """Note what is asked of a variant, and what to go back to; what is left out stays as it is."""
    count = item.get("DesiredInstanceCount", variant.desired_count)
    weight = item.get("DesiredWeight", variant.desired_weight)
    if count != variant.desired_count:
        variant = replace(
            variant,
            desired_count=count,
            previous_count=variant.desired_count,
            setbacks=0,
            launch_not_before=0.0,
        )
    if weight != variant.desired_weight:
        variant = replace(variant, desired_weight=weight, previous_weight=variant.desired_weight)
    return variant
