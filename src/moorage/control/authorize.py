"""May the caller do this? Asks the policies of the caller's key about everything that an operation needs."""

from collections.abc import Mapping

from moorage.aws.errors import ClientFault, OurFault
from moorage.aws.sigv4 import header_value
from moorage.control.exchange import Exchange
from moorage.iam.authenticate import Caller
from moorage.iam.context import SECURE_HEADER, SOURCE_IP_HEADER, make_context, resource_tags
from moorage.iam.evaluate import Access, permissions_of
from moorage.iam.sagemaker import Need, needs
from moorage.state import tags
from moorage.state.records import Kind, ResourceKey


async def authorize(exchange: Exchange) -> None:
    """Refuse an operation that the caller's policies do not allow, in the order of what it needs."""
    if exchange.operation is None or exchange.caller is None:
        raise OurFault("InternalFailure", "This stage comes after authenticate.")
    caller = exchange.caller
    if permissions_of(caller.credential).unlimited:
        return
    for need in needs(exchange.operation.name, exchange.members, caller.account, caller.region):
        await check(exchange, caller, need)


async def check(exchange: Exchange, caller: Caller, need: Need) -> None:
    """Refuse one thing that the caller's policies do not allow."""
    permissions = permissions_of(caller.credential)
    found = await _tags_of(exchange, caller, need) if permissions.look_at_resource_tags else {}
    context = make_context(
        caller,
        now=exchange.desk.clock.now(),
        source_ip=header_value(exchange.http, SOURCE_IP_HEADER),
        secure=header_value(exchange.http, SECURE_HEADER) == "true",
        more={**need.context, **resource_tags(found)},
    )
    access = Access(need.action, need.resource, context)
    if (denial := permissions.refuse(access)) is not None:
        raise ClientFault("AccessDeniedException", denial.text(caller.credential.user_arn, access))


async def _tags_of(exchange: Exchange, caller: Caller, need: Need) -> Mapping[str, str]:
    if need.tagged is None or need.tagged[0] not in set(Kind):
        return {}
    kind, name = need.tagged
    key = ResourceKey(caller.account, caller.region, Kind(kind), name)
    return await exchange.desk.services.store.read(lambda connection: tags.read(connection, key))
