"""Endpoint configurations (control-plane.md section 5.2)."""

from typing import Any

from sqlalchemy import Connection

from moorage.control.operations import lists
from moorage.control.operations.answers import arn_of
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import add_document, check_is_free, find_document, remove_document
from moorage.control.rules import check, endpoint_configs
from moorage.state import documents
from moorage.state.records import Document, Kind, ResourceKey


async def create_endpoint_config(call: Call, request: Members) -> dict[str, Any]:
    """Record a description that endpoints can be made from; it takes no capacity."""
    check(endpoint_configs.RULES, request)
    key = call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])

    def record(connection: Connection) -> None:
        check_is_free(connection, key)
        for variant in request["ProductionVariants"]:
            find_document(connection, call.resource(Kind.MODEL, variant["ModelName"]))
        add_document(connection, key, request, call.now)

    await call.services.store.transact(record)
    return {"EndpointConfigArn": arn_of(key)}


async def describe_endpoint_config(call: Call, request: Members) -> dict[str, Any]:
    """Give an endpoint configuration back, in a form that can be sent to CreateEndpointConfig again."""
    key = call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    config = await call.services.store.read(lambda connection: find_document(connection, key))
    variants = [{"InitialVariantWeight": 1.0, **variant} for variant in config.members["ProductionVariants"]]
    return {
        "EnableNetworkIsolation": False,
        **config.members,
        "ProductionVariants": variants,
        "EndpointConfigName": config.name,
        "EndpointConfigArn": arn_of(key),
        "CreationTime": config.created_at,
    }


async def list_endpoint_configs(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's endpoint configurations."""
    page = lists.page_of(request)
    found = await call.services.store.read(
        lambda connection: documents.page(connection, call.account, call.region, Kind.ENDPOINT_CONFIG, page)
    )
    return lists.answer(request, "EndpointConfigs", page, found, _summary)


def _summary(config: Document) -> dict[str, Any]:
    key = ResourceKey(config.account, config.region, Kind.ENDPOINT_CONFIG, config.name)
    return {
        "EndpointConfigName": config.name,
        "EndpointConfigArn": arn_of(key),
        "CreationTime": config.created_at,
    }


async def delete_endpoint_config(call: Call, request: Members) -> dict[str, Any]:
    """Delete the entry; endpoints made from it have their own copy."""
    key = call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    await call.services.store.transact(lambda connection: remove_document(connection, key))
    return {}
