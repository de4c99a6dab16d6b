"""Endpoint configurations (control-plane.md section 5.2)."""

from typing import Any

from sqlalchemy import Connection

from moorage.control.operations.answers import arn_of
from moorage.control.operations.call import Call, Members
from moorage.control.operations.deployed import check_promises
from moorage.control.operations.documents import (
    add_document,
    check_is_free,
    find_document,
    list_documents,
    remove_document,
)
from moorage.control.rules import check, endpoint_configs, referenced_models, variants
from moorage.state.records import Kind, Listed, ResourceKey


async def create_endpoint_config(call: Call, request: Members) -> dict[str, Any]:
    """Record a description that endpoints can be made from; it takes no capacity."""
    check(endpoint_configs.RULES, request)
    key = call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])

    def record(connection: Connection) -> None:
        check_is_free(connection, key)
        names = variants.models_of(request)
        models = {name: find_document(connection, call.resource(Kind.MODEL, name)).members for name in names}
        check((*referenced_models.rules_for(models), endpoint_configs.only_what_is_built), request)
        check_promises(connection, call, request)
        add_document(connection, key, request, call.now)

    await call.services.store.transact(record)
    return {"EndpointConfigArn": arn_of(key)}


async def describe_endpoint_config(call: Call, request: Members) -> dict[str, Any]:
    """Give an endpoint configuration back, in a form that can be sent to CreateEndpointConfig again."""
    key = call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    config = await call.services.store.read(lambda connection: find_document(connection, key))
    weighted = {
        member: [{"InitialVariantWeight": 1.0, **variant} for variant in config.members[member]]
        for member in ("ProductionVariants", "ShadowProductionVariants")
        if config.members.get(member)
    }
    return {
        "EnableNetworkIsolation": False,
        **config.members,
        **weighted,
        "EndpointConfigName": config.name,
        "EndpointConfigArn": arn_of(key),
        "CreationTime": config.created_at,
    }


async def list_endpoint_configs(call: Call, request: Members) -> dict[str, Any]:
    """List the caller's endpoint configurations."""
    return await list_documents(call, request, Kind.ENDPOINT_CONFIG, "EndpointConfigs", _summary)


def _summary(key: ResourceKey, listed: Listed) -> dict[str, Any]:
    return {"EndpointConfigName": listed.name, "EndpointConfigArn": arn_of(key), "CreationTime": listed.created_at}


async def delete_endpoint_config(call: Call, request: Members) -> dict[str, Any]:
    """Delete the entry; endpoints made from it have their own copy."""
    key = call.resource(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    await call.services.store.transact(lambda connection: remove_document(connection, key))
    return {}
