"""Endpoints (control-plane.md section 5.3). An operation writes what is desired; the reconciler does the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from moorage.aws.errors import validation_exception
from moorage.control.operations import lists
from moorage.control.operations.answers import already_exists, could_not_find, endpoint_arn, in_progress
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import find_document
from moorage.control.planning import summary
from moorage.control.planning.status import Event, allows, follow
from moorage.control.rules import check
from moorage.control.rules import endpoints as rules
from moorage.control.rules.models import containers_of
from moorage.state import endpoints, instances, tags
from moorage.state.records import (
    Container,
    DeployedVariant,
    EndpointKey,
    EndpointRecord,
    EndpointStatus,
    InstanceRecord,
    Kind,
)

_PRIMARY = "primary"
"""Name of the only container of a model in AWS's texts."""


async def create_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Copy a configuration and its models into a new endpoint, which the reconciler brings to life."""
    check(rules.CREATE_RULES, request)
    key = call.endpoint(request["EndpointName"])
    resource = call.resource(Kind.ENDPOINT, key.name)

    def record(connection: Connection) -> None:
        if endpoints.find_any_case(connection, key) is not None:
            raise already_exists(resource)
        endpoints.add(connection, _make_endpoint(connection, call, request))
        tags.put(connection, resource, {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())})

    await call.services.store.transact(record)
    return {"EndpointArn": endpoint_arn(key)}


def _make_endpoint(connection: Connection, call: Call, request: Members) -> EndpointRecord:
    config = find_document(connection, call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"]))
    return EndpointRecord(
        account=call.account,
        region=call.region,
        name=request["EndpointName"],
        config_name=config.name,
        variants=tuple(_deploy(connection, call, variant) for variant in config.members["ProductionVariants"]),
        status=EndpointStatus.CREATING,
        failure_reason=None,
        created_at=call.now,
        modified_at=call.now,
    )


def _deploy(connection: Connection, call: Call, variant: Mapping[str, Any]) -> DeployedVariant:
    model = find_document(connection, call.resource(Kind.MODEL, variant["ModelName"]))
    (container,) = containers_of(model.members)
    return DeployedVariant(
        name=variant["VariantName"],
        model_name=model.name,
        instance_type=variant["InstanceType"],
        desired_count=variant["InitialInstanceCount"],
        desired_weight=variant.get("InitialVariantWeight", 1.0),
        containers=(
            Container(
                name=_PRIMARY,
                image=container["Image"],
                environment=container.get("Environment", {}),
                model_data_url=container.get("ModelDataUrl"),
            ),
        ),
    )


async def describe_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Tell what an endpoint is, and what is being done to it."""
    key = call.endpoint(request["EndpointName"])
    endpoint, recorded = await call.services.store.read(lambda connection: _read(connection, call, key))
    node = call.services.node
    reports = node.reports_of(key) if node.known else None
    return summary.describe(endpoint, recorded, reports, call.services.publisher.route_of(key))


def _read(connection: Connection, call: Call, key: EndpointKey) -> tuple[EndpointRecord, Sequence[InstanceRecord]]:
    return _find(connection, call, key), instances.of_endpoint(connection, key)


def _find(connection: Connection, call: Call, key: EndpointKey) -> EndpointRecord:
    if (endpoint := endpoints.find(connection, key)) is None:
        raise could_not_find(call.resource(Kind.ENDPOINT, key.name))
    return endpoint


async def list_endpoints(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's endpoints."""
    page = lists.page_of(request)
    found = await call.services.store.read(
        lambda connection: endpoints.page(connection, call.account, call.region, page)
    )
    return lists.answer(request, "Endpoints", page, found, _summary)


def _summary(endpoint: EndpointRecord) -> dict[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint_arn(endpoint.key),
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.modified_at,
        "EndpointStatus": endpoint.status,
    }


async def update_endpoint_weights_and_capacities(call: Call, request: Members) -> dict[str, Any]:
    """Ask for other shares of traffic, other numbers of instances, or both; what fails is rolled back."""
    check(rules.WEIGHTS_RULES, request)
    key = call.endpoint(request["EndpointName"])
    asked = {item["VariantName"]: item for item in request["DesiredWeightsAndCapacities"]}

    def record(connection: Connection) -> None:
        endpoint = _find(connection, call, key)
        check([lambda members: rules.variants_are_known(members, endpoint)], request)
        if endpoint.status == EndpointStatus.FAILED:
            raise validation_exception(
                f'Cannot update endpoint "{endpoint_arn(key)}" because its status is Failed: it can only be deleted.'
            )
        if not allows(endpoint.status, Event.UPDATE_REQUESTED):
            raise in_progress(key)
        check([rules.capacity_is_not_zero], request)
        changed = replace(
            endpoint,
            variants=tuple(_ask(variant, asked.get(variant.name, {})) for variant in endpoint.variants),
            status=follow(endpoint.status, Event.UPDATE_REQUESTED),
            failure_reason=None,
            modified_at=call.now,
        )
        endpoints.change(connection, changed)

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


async def delete_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Ask for an endpoint's end; asking again while it is on its way changes nothing."""
    key = call.endpoint(request["EndpointName"])

    def record(connection: Connection) -> None:
        endpoint = _find(connection, call, key)
        if endpoint.status == EndpointStatus.DELETING:
            return
        if not allows(endpoint.status, Event.DELETE_REQUESTED):
            raise in_progress(key)
        status = follow(endpoint.status, Event.DELETE_REQUESTED)
        endpoints.change(connection, replace(endpoint, status=status, modified_at=call.now))

    await call.services.store.transact(record)
    return {}
