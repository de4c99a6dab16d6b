"""Tags of resources (control-plane.md section 4.4)."""

from typing import Any

from sqlalchemy import Connection

from moorage.aws.arns import parse_arn
from moorage.aws.errors import ClientFault, validation_exception
from moorage.control.operations.answers import WORDS
from moorage.control.operations.call import Call, Members
from moorage.control.rules import check
from moorage.control.rules import tags as rules
from moorage.state import documents, endpoints, tags
from moorage.state.records import EndpointKey, Kind, ResourceKey
from moorage.state.store import mark_changed


async def add_tags(call: Call, request: Members) -> dict[str, Any]:
    """Set tags of a resource, replacing those of the same keys; gives all its tags."""
    check(rules.RULES, request)
    given = {tag["Key"]: tag["Value"] for tag in request["Tags"]}

    def record(connection: Connection) -> dict[str, str]:
        key = _find(connection, call, request["ResourceArn"])
        after = {**tags.read(connection, key), **given}
        check([lambda _members: rules.too_many(after)], request)
        tags.put(connection, key, given)
        _mark_changed(connection, key)
        return after

    return {"Tags": _shown(await call.services.store.transact(record))}


async def list_tags(call: Call, request: Members) -> dict[str, Any]:
    """Give all tags of a resource: there are never more than one page holds."""
    if (token := request.get("NextToken")) is not None:
        raise validation_exception(f'Invalid pagination token "{token[:200]}" because there is only one page.')

    def read(connection: Connection) -> dict[str, str]:
        return tags.read(connection, _find(connection, call, request["ResourceArn"]))

    return {"Tags": _shown(await call.services.store.read(read))}


async def delete_tags(call: Call, request: Members) -> dict[str, Any]:
    """Delete tags of a resource; those that it does not have are left alone."""

    def record(connection: Connection) -> None:
        key = _find(connection, call, request["ResourceArn"])
        tags.remove(connection, key, request["TagKeys"])
        _mark_changed(connection, key)

    await call.services.store.transact(record)
    return {}


def _shown(found: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(found.items())]


def _find(connection: Connection, call: Call, text: str) -> ResourceKey:
    """Find the resource of an ARN, whatever the case of its name."""
    arn = parse_arn(text)
    if arn is None or arn.kind not in set(Kind) or (arn.account, arn.region) != (call.account, call.region):
        raise _could_not_find(text, None if arn is None else arn.kind)
    key = call.resource(Kind(arn.kind), arn.name)
    if not _exists(connection, key):
        raise _could_not_find(text, key.kind)
    return key


def _mark_changed(connection: Connection, key: ResourceKey) -> None:
    """Have the tags of an endpoint published: gateways ask policies about them."""
    if key.kind == Kind.ENDPOINT:
        endpoint = endpoints.find_any_case(connection, EndpointKey(key.account, key.region, key.name))
        if endpoint is not None:
            mark_changed(connection, endpoint.key)


def _exists(connection: Connection, key: ResourceKey) -> bool:
    if key.kind == Kind.ENDPOINT:
        place = EndpointKey(key.account, key.region, key.name)
        return endpoints.find_any_case(connection, place) is not None
    return documents.find_any_case(connection, key) is not None


def _could_not_find(text: str, kind: str | None) -> ClientFault:
    word = WORDS[Kind(kind)] if kind in set(Kind) else "resource"
    return validation_exception(f'Could not find {word} "{text}".')
