"""Operations on aliases."""

import re
from typing import Any

from moorage.aws.errors import ClientFault
from moorage.kms.records import ALIAS, SERVICE_ALIAS, Alias
from moorage.neighbours.kms.desk import Desk, Members, page
from moorage.neighbours.kms.faults import validation

_NAME = re.compile(r"alias/[A-Za-z0-9/_-]+", re.ASCII)


def create_alias(desk: Desk, members: Members) -> dict[str, Any]:
    """Give a key a second name."""
    name = _new_name(members)
    _check_allowed(desk, "CreateAlias", name)
    desk.ring.create_alias(name, desk.key("CreateAlias", _target(members)))
    return {}


def update_alias(desk: Desk, members: Members) -> dict[str, Any]:
    """Let an alias name another key."""
    name = _new_name(members)
    _check_allowed(desk, "UpdateAlias", name)
    before = desk.ring.alias(name, desk.home)
    desk.key("UpdateAlias", before.key_id)
    desk.ring.update_alias(name, desk.key("UpdateAlias", _target(members)))
    return {}


def delete_alias(desk: Desk, members: Members) -> dict[str, Any]:
    """Take a second name away."""
    name = _new_name(members)
    _check_allowed(desk, "DeleteAlias", name)
    desk.key("DeleteAlias", desk.ring.alias(name, desk.home).key_id)
    desk.ring.delete_alias(name, desk.home)
    return {}


def list_aliases(desk: Desk, members: Members) -> dict[str, Any]:
    """List the aliases of an account and region, or those of one key."""
    desk.call.require("kms:ListAliases", "*")
    aliases = desk.ring.aliases(desk.home)
    if (name := members.get("KeyId")) is not None:
        key_id = desk.key("ListAliases", name).key_id
        aliases = [alias for alias in aliases if alias.key_id == key_id]
    shown, further = page(aliases, members, "aliases", lambda alias: [alias.name])
    return {"Aliases": [_shown(alias) for alias in shown], **further}


def _shown(alias: Alias) -> dict[str, Any]:
    return {
        "AliasName": alias.name,
        "AliasArn": alias.arn,
        "TargetKeyId": alias.key_id,
        "CreationDate": alias.created_at,
        "LastUpdatedDate": alias.updated_at,
    }


def _new_name(members: Members) -> str:
    """Give the name of an alias that may be changed."""
    name: str = members["AliasName"]
    if not name.startswith(ALIAS):
        raise validation("Invalid identifier")
    if _NAME.fullmatch(name) is None:
        raise validation(f"{name} contains invalid characters for an alias")
    if name.startswith(SERVICE_ALIAS):
        raise ClientFault("NotAuthorizedException", f"The names that begin with {SERVICE_ALIAS} are reserved.")
    return name


def _target(members: Members) -> str:
    target: str = members["TargetKeyId"]
    if ALIAS in target:
        raise validation("Aliases must refer to keys. Not aliases")
    return target


def _check_allowed(desk: Desk, action: str, name: str) -> None:
    """Ask for the permission on the alias; that on its key is asked for besides."""
    desk.call.require(f"kms:{action}", desk.home.arn(name))
