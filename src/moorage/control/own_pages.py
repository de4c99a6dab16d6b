"""Moorage's own pages beside the API: health, keys and instances, as JSON.

``moorage keys`` and ``moorage ls`` read them. All but the health page want a signature for the service
``sagemaker``, of any key; keys are shown and changed within the caller's account.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from moorage.aws.errors import ClientFault, validation_exception
from moorage.aws.response import Response
from moorage.aws.sigv4 import HttpRequest
from moorage.control.exchange import Exchange
from moorage.state.records import KeyRecord

PREFIX = "/_moorage/"
HEALTH = "/_moorage/health"

_KEYS = "/_moorage/keys"
_KEY = re.compile(r"/_moorage/keys/([A-Za-z0-9]+)")
_USER_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)


async def _health(exchange: Exchange) -> dict[str, Any]:
    """Say that the API can be used."""
    return {"status": "ok", **exchange.desk.about}


async def _list_keys(exchange: Exchange) -> dict[str, Any]:
    """List the keys of the caller's account, without their secrets."""
    return {"keys": [_shown(key) for key in exchange.desk.keyring.of_account(_account(exchange))]}


async def _create_key(exchange: Exchange) -> dict[str, Any]:
    """Issue a key in the caller's account; its secret is shown this once."""
    user_name = _user_name(exchange.body or b"")
    key = await exchange.desk.keyring.create(_account(exchange), user_name)
    return {**_shown(key), "secret_access_key": key.secret_access_key}


async def _delete_key(exchange: Exchange) -> dict[str, Any]:
    """Take a key of the caller's account back."""
    keyring = exchange.desk.keyring
    access_key_id = exchange.http.path.removeprefix(_KEYS + "/")
    if access_key_id not in {key.access_key_id for key in keyring.of_account(_account(exchange))}:
        raise validation_exception(f'Could not find access key "{access_key_id}".')
    if keyring.is_first(access_key_id):
        message = f'The access key "{access_key_id}" is the one that Moorage\'s own commands use: it cannot be deleted.'
        raise validation_exception(message)
    await keyring.delete(access_key_id)
    return {}


async def _list_instances(exchange: Exchange) -> dict[str, Any]:
    """Tell what the node agent has reported of the instances of the caller's account."""
    account = _account(exchange)
    reports = exchange.desk.services.node.all_reports()
    return {"instances": [report.to_message() for report in reports if report.account == account]}


Page = Callable[[Exchange], Awaitable[dict[str, Any]]]

_PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", HEALTH): _health,
    ("GET", _KEYS): _list_keys,
    ("POST", _KEYS): _create_key,
    ("GET", "/_moorage/instances"): _list_instances,
}


def find(http: HttpRequest) -> Page:
    """Find the page that is asked for, or say that there is none."""
    if (page := _PAGES.get((http.method, http.path))) is not None:
        return page
    if http.method == "DELETE" and _KEY.fullmatch(http.path):
        return _delete_key
    message = f"Moorage has no page {http.method} {http.path[:200]!a}."
    raise ClientFault("UnknownOperationException", message, status=404)


async def show(exchange: Exchange) -> Response:
    """Answer a page."""
    content = await find(exchange.http)(exchange)
    headers = (("x-amzn-RequestId", exchange.request_id), ("Content-Type", "application/json"))
    return Response(200, headers, orjson.dumps(content))


def _account(exchange: Exchange) -> str:
    if exchange.caller is None:
        raise ClientFault("MissingAuthenticationTokenException", "Missing Authentication Token")
    return exchange.caller.account


def _shown(key: KeyRecord) -> dict[str, Any]:
    return {
        "access_key_id": key.access_key_id,
        "account": key.account,
        "user_name": key.user_name,
        "created_at": key.created_at,
    }


def _user_name(body: bytes) -> str:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise ClientFault("SerializationException", "The request body is not valid JSON.") from fault
    name = content.get("user_name") if isinstance(content, dict) else None
    if not isinstance(name, str) or _USER_NAME.fullmatch(name) is None:
        raise validation_exception("user_name must have 1 to 64 letters, digits or characters of +=,.@_-")
    return name
