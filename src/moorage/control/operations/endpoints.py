"""Endpoints (control-plane.md section 5.3). An operation writes what is desired; the reconciler does the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection

from moorage.control.operations import lists, reservations
from moorage.control.operations.answers import already_exists, endpoint_arn, in_progress
from moorage.control.operations.call import Call, Members
from moorage.control.operations.deployed import check_quotas, copy_variants, find_config, find_endpoint
from moorage.control.planning import quotas, summary
from moorage.control.planning.status import Event, allows, follow
from moorage.control.rules import check
from moorage.control.rules import endpoints as rules
from moorage.state import endpoints, instances, tags
from moorage.state.records import EndpointKey, EndpointRecord, EndpointStatus, InstanceRecord, Kind


async def create_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Copy a configuration and its models into a new endpoint, which the reconciler brings to life."""
    check(rules.CREATE_RULES, request)
    key = call.endpoint(request["EndpointName"])
    resource = call.resource(Kind.ENDPOINT, key.name)

    def record(connection: Connection) -> None:
        if endpoints.find_any_case(connection, key) is not None:
            raise already_exists(resource)
        endpoints.add(connection, _make_endpoint(connection, call, request))
        tags.add(connection, resource, {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())})

    await call.services.store.transact(record)
    return {"EndpointArn": endpoint_arn(key)}


def _make_endpoint(connection: Connection, call: Call, request: Members) -> EndpointRecord:
    config = find_config(connection, call, request["EndpointConfigName"])
    variants = copy_variants(connection, call, config)
    counts = [variant.desired_count for variant in variants if not variant.shadow]
    check([lambda members: rules.steps_fit(members, counts), rules.only_what_create_builds], request)
    check_quotas(connection, call, quotas.usage_of(variants))
    return EndpointRecord(
        account=call.account,
        region=call.region,
        name=request["EndpointName"],
        config_name=config.name,
        variants=variants,
        status=EndpointStatus.CREATING,
        failure_reason=None,
        created_at=call.now,
        modified_at=call.now,
        deployment_config=request.get("DeploymentConfig"),
        capture=config.members.get("DataCaptureConfig"),
    )


async def describe_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Tell what an endpoint is, and what is being done to it."""
    key = call.endpoint(request["EndpointName"])
    read = await call.services.store.read(lambda connection: _read(connection, call, key))
    node = call.services.node
    reports = node.reports_of(key) if node.known else None
    route = call.services.publisher.route_of(key)
    return summary.describe(read.endpoint, read.instances, reports, route, read.reservations)


class _Read(NamedTuple):
    """What is recorded of an endpoint."""

    endpoint: EndpointRecord
    instances: Sequence[InstanceRecord]
    reservations: Mapping[str, summary.Reservation]


def _read(connection: Connection, call: Call, key: EndpointKey) -> _Read:
    endpoint = find_endpoint(connection, call, key)
    reserved = reservations.summaries(connection, call, endpoint.variants)
    return _Read(endpoint, instances.of_endpoint(connection, key), reserved)


async def list_endpoints(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's endpoints."""
    page = lists.page_of(request, "Endpoints")
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


async def delete_endpoint(call: Call, request: Members) -> dict[str, Any]:
    """Ask for an endpoint's end; asking again while it is on its way changes nothing."""
    key = call.endpoint(request["EndpointName"])

    def record(connection: Connection) -> None:
        endpoint = find_endpoint(connection, call, key)
        if endpoint.status == EndpointStatus.DELETING:
            return
        if not allows(endpoint.status, Event.DELETE_REQUESTED):
            raise in_progress(key)
        status = follow(endpoint.status, Event.DELETE_REQUESTED)
        endpoints.change(connection, replace(endpoint, status=status, modified_at=call.now))

    await call.services.store.transact(record)
    return {}
