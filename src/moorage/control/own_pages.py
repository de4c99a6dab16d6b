"""Moorage's own pages beside the API: health, keys, reservations, instances, events and traffic; Prometheus's metrics.

``moorage keys``, ``moorage reservations``, ``moorage ls``, ``moorage events`` and ``moorage top`` read them, as JSON.
All but the health page want a signature for the service ``sagemaker``, or what ``scrapers`` says for the page of
metrics. Each asks the caller's policies: those about keys and reservations say which in modules of their own, the
others want ``sagemaker:ListEndpoints``.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson

from moorage.aws.errors import ClientFault, OurFault, validation_exception
from moorage.aws.response import Response
from moorage.aws.sigv4 import HttpRequest
from moorage.control import key_pages, metrics_pages, reservation_pages
from moorage.control.authorize import check
from moorage.control.events import MOST_EVENTS
from moorage.control.exchange import Exchange
from moorage.iam.authenticate import Caller
from moorage.iam.sagemaker import Need
from moorage.telemetry.prometheus import CONTENT_TYPE

PREFIX = "/_moorage/"
HEALTH = "/_moorage/health"


async def _health(exchange: Exchange) -> dict[str, Any]:
    """Say that the API can be used: the gateway and the neighbours know the keys too."""
    if not exchange.desk.services.publisher.keys_in_force():
        raise OurFault("ServiceUnavailable", "Moorage is starting.", status=503)
    return {"status": "ok", **exchange.desk.about}


async def _list_instances(exchange: Exchange) -> dict[str, Any]:
    """Tell what the node agent has reported of the instances of the caller's account."""
    account = (await _viewer(exchange)).account
    reports = exchange.desk.services.node.all_reports()
    return {"instances": [report.to_message() for report in reports if report.account == account]}


async def _list_events(exchange: Exchange) -> dict[str, Any]:
    """Give the events of the caller's account and region after a position, waiting for some if that is wished."""
    caller = await _viewer(exchange)
    asked = dict(parse_qsl(exchange.http.query))
    return await exchange.desk.events.read(
        (caller.account, caller.region),
        after=_number(asked, "after", 0, 2**62),
        endpoint=asked.get("endpoint"),
        limit=max(1, _number(asked, "limit", 100, MOST_EVENTS)),
        wait_seconds=_number(asked, "wait", 0, 3600),
    )


async def _metrics(exchange: Exchange) -> str:
    """Tell what was counted: to who has signed, of the caller's account; otherwise of all (``scrapers``)."""
    account = (await _viewer(exchange)).account if exchange.caller is not None else None
    return await exchange.desk.traffic.metrics(account)


async def _top(exchange: Exchange) -> dict[str, Any]:
    """Tell what the variants of the caller's account do at present."""
    return exchange.desk.traffic.top((await _viewer(exchange)).account)


def _number(asked: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise validation_exception(f"{name} must be a whole number, not {text[:40]!a}.")
    return min(int(text), most)


Page = Callable[[Exchange], Awaitable[dict[str, Any] | str]]
"""Gives JSON, or the text of Prometheus's format."""

_PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", HEALTH): _health,
    ("GET", key_pages.KEYS): key_pages.list_keys,
    ("POST", key_pages.KEYS): key_pages.create_key,
    ("GET", "/_moorage/instances"): _list_instances,
    ("GET", "/_moorage/events"): _list_events,
    ("GET", reservation_pages.RESERVATIONS): reservation_pages.show_all,
    ("POST", reservation_pages.RESERVATIONS): reservation_pages.create,
    ("GET", metrics_pages.METRICS): _metrics,
    ("GET", metrics_pages.TOP): _top,
}


_PAGES_OF_ONE: tuple[tuple[str, re.Pattern[str], Page], ...] = (
    ("DELETE", key_pages.KEY, key_pages.delete_key),
    ("GET", key_pages.POLICY, key_pages.show_policy),
    ("PUT", key_pages.POLICY, key_pages.put_policy),
    ("DELETE", reservation_pages.ONE, reservation_pages.delete),
)


def find(http: HttpRequest) -> Page:
    """Find the page that is asked for, or say that there is none."""
    if (page := _PAGES.get((http.method, http.path))) is not None:
        return page
    for method, path, page in _PAGES_OF_ONE:
        if http.method == method and path.fullmatch(http.path):
            return page
    message = f"Moorage has no page {http.method} {http.path[:200]!a}."
    raise ClientFault("UnknownOperationException", message, status=404)


async def show(exchange: Exchange) -> Response:
    """Answer a page."""
    content = await find(exchange.http)(exchange)
    content_type = CONTENT_TYPE if isinstance(content, str) else "application/json"
    headers = (("x-amzn-RequestId", exchange.request_id), ("Content-Type", content_type))
    return Response(200, headers, content.encode() if isinstance(content, str) else orjson.dumps(content))


async def _viewer(exchange: Exchange) -> Caller:
    """Give the caller, who must be allowed to see what goes on."""
    if exchange.caller is None:
        raise ClientFault("MissingAuthenticationTokenException", "Missing Authentication Token")
    await check(exchange, exchange.caller, Need("sagemaker:ListEndpoints", "*", {}))
    return exchange.caller
