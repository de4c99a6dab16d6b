"""Moorage's own pages about access keys: list, make, delete, and the policies of one.

They ask for the permissions that IAM asks for: ``iam:ListAccessKeys``, ``iam:CreateAccessKey`` and so on of the
user whose key it is. Accounts do not see each other; only the installation's first key may work in all of them.
"""

import re
from typing import Any

import orjson

from moorage.aws.errors import ClientFault, validation_exception
from moorage.control.authorize import check
from moorage.control.exchange import Exchange, read_content
from moorage.iam.authenticate import Caller
from moorage.iam.documents import FULL_ACCESS, MalformedPolicy, read_policy
from moorage.iam.sagemaker import Need
from moorage.state.records import KeyRecord

KEYS = "/_moorage/keys"
KEY = re.compile(r"/_moorage/keys/([A-Za-z0-9]+)")
POLICY = re.compile(r"/_moorage/keys/([A-Za-z0-9]+)/policy")

_USER_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_MOST_POLICIES = 10


async def list_keys(exchange: Exchange) -> dict[str, Any]:
    """List the keys of the caller's account, without their secrets; the first key sees those of all accounts."""
    caller = _caller(exchange)
    await _check(exchange, "ListAccessKeys", caller.account, "*")
    return {"keys": [_shown(key) for key in exchange.desk.keyring.all() if _may_see(exchange, key.account)]}


async def create_key(exchange: Exchange) -> dict[str, Any]:
    """Issue a key; its secret is shown this once."""
    content = read_content(exchange)
    user_name, account = content.get("user_name"), content.get("account", _caller(exchange).account)
    if not isinstance(user_name, str) or _USER_NAME.fullmatch(user_name) is None:
        raise validation_exception("user_name must have 1 to 64 letters, digits or characters of +=,.@_-")
    if not isinstance(account, str) or _ACCOUNT.fullmatch(account) is None:
        raise validation_exception("account must have 12 digits.")
    policies = _policies(content)
    if not _may_see(exchange, account):
        raise validation_exception(f"Only the first key may make keys of another account: {account}.")
    await _check(exchange, "CreateAccessKey", account, user_name)
    # Who makes a key decides what it may do, also by leaving its policies out.
    await _check(exchange, "PutUserPolicy", account, user_name)
    key = await exchange.desk.keyring.create(account, user_name, policies)
    return {**_shown(key), "secret_access_key": key.secret_access_key}


async def delete_key(exchange: Exchange) -> dict[str, Any]:
    """Take a key back."""
    key = _find(exchange, KEY)
    await _check(exchange, "DeleteAccessKey", key.account, key.user_name)
    _refuse_first(exchange, key, "deleted")
    await exchange.desk.keyring.delete(key.access_key_id)
    return {}


async def show_policy(exchange: Exchange) -> dict[str, Any]:
    """Give the policies of a key."""
    key = _find(exchange, POLICY)
    await _check(exchange, "GetUserPolicy", key.account, key.user_name)
    policies = (FULL_ACCESS,) if key.policies is None else key.policies
    return {"access_key_id": key.access_key_id, "policies": [orjson.loads(text) for text in policies]}


async def put_policy(exchange: Exchange) -> dict[str, Any]:
    """Give a key other policies, or with null those that a key has by default."""
    policies = _policies(read_content(exchange))
    key = _find(exchange, POLICY)
    await _check(exchange, "PutUserPolicy", key.account, key.user_name)
    _refuse_first(exchange, key, "limited")
    await exchange.desk.keyring.set_policies(key.access_key_id, policies)
    return {}


def _caller(exchange: Exchange) -> Caller:
    if exchange.caller is None:
        raise ClientFault("MissingAuthenticationTokenException", "Missing Authentication Token")
    return exchange.caller


def _may_see(exchange: Exchange, account: str) -> bool:
    caller = _caller(exchange)
    return caller.account == account or exchange.desk.keyring.is_first(caller.credential.access_key_id)


async def _check(exchange: Exchange, action: str, account: str, user_name: str) -> None:
    need = Need(f"iam:{action}", f"arn:aws:iam::{account}:user/{user_name}", {})
    await check(exchange, _caller(exchange), need)


def _find(exchange: Exchange, path: re.Pattern[str]) -> KeyRecord:
    found = path.fullmatch(exchange.http.path)
    access_key_id = found[1] if found else ""
    key = exchange.desk.keyring.find(access_key_id)
    if key is None or not _may_see(exchange, key.account):
        raise validation_exception(f'Could not find access key "{access_key_id}".')
    return key


def _refuse_first(exchange: Exchange, key: KeyRecord, done: str) -> None:
    if exchange.desk.keyring.is_first(key.access_key_id):
        message = (
            f'The access key "{key.access_key_id}" is the one that Moorage\'s own commands use: it cannot be {done}.'
        )
        raise validation_exception(message)


def _shown(key: KeyRecord) -> dict[str, Any]:
    return {
        "access_key_id": key.access_key_id,
        "account": key.account,
        "user_name": key.user_name,
        "created_at": key.created_at,
        "policies": None if key.policies is None else len(key.policies),
    }


def _policies(content: dict[str, Any]) -> tuple[str, ...] | None:
    """Check the policies that a key is to have: texts of JSON; absent or null means full access."""
    texts = content.get("policies")
    if texts is None:
        return None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise validation_exception("policies must be a list of texts, each of them a policy in JSON.")
    if len(texts) > _MOST_POLICIES:
        raise validation_exception(f"A key has at most {_MOST_POLICIES} policies.")
    for text in texts:
        try:
            read_policy(text)
        except MalformedPolicy as fault:
            raise ClientFault("MalformedPolicyDocumentException", fault.message) from fault
    return tuple(texts)
