"""What happens to a request of the control plane, in order.

``STAGES`` is that order (control-plane.md section 2.1): what cannot be read is refused before anybody asks who sent
it, and everything that the model says about a request is checked before anything that the model does not say. The
last stage gives the answer. A stage that refuses raises a ``ServiceError``.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from moorage.aws import json11, validate
from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.aws.response import Response
from moorage.aws.shapes import Operation, load_service
from moorage.aws.sigv4 import HttpRequest, header_value
from moorage.base.ids import Ids
from moorage.control import metrics_pages, own_pages, scrapers
from moorage.control.authorize import authorize
from moorage.control.dispatch import OPERATIONS
from moorage.control.exchange import Desk, Exchange
from moorage.control.operations.call import Call
from moorage.iam.authenticate import AuthenticationFailed, Caller, as_json_error, identify

log = logging.getLogger(__name__)

_SKEW_SECONDS = 300.0
_HASH_IN_THREAD_BYTES = 65_536

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def find_operation(exchange: Exchange) -> None:
    """Find what is asked for."""
    http = exchange.http
    if http.method != "POST" or http.path != "/":
        raise ClientFault("UnknownOperationException", f"Moorage has no {http.method} {http.path[:200]!a}.")
    target = header_value(http, "x-amz-target")
    exchange.operation = json11.find_operation(load_service("sagemaker"), target, OPERATIONS)


async def check_size(exchange: Exchange) -> None:
    """Refuse a body that is too large."""
    if exchange.body is None:
        limit = exchange.desk.longest_body_bytes
        message = f"The request body is larger than {limit} bytes."
        raise ClientFault("RequestEntityTooLargeException", message, status=413)


async def parse(exchange: Exchange) -> None:
    """Read the body by the operation's model."""
    exchange.members = json11.parse_request(_operation(exchange), exchange.body or b"")


async def authenticate(exchange: Exchange) -> None:
    """Find out who asks."""
    body = exchange.body or b""
    if len(body) > _HASH_IN_THREAD_BYTES:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
    else:
        digest = hashlib.sha256(body).hexdigest()
    keys, now = exchange.desk.keyring.keys, exchange.desk.clock.now()
    try:
        caller = identify(exchange.http, digest, keys, now=now, skew_seconds=_SKEW_SECONDS)
    except AuthenticationFailed as failure:
        raise as_json_error(failure, 400) from failure
    if caller.service != "sagemaker":
        message = "Credential should be scoped to correct service: 'sagemaker'."
        raise ClientFault("InvalidSignatureException", message)
    exchange.caller = caller


async def check_constraints(exchange: Exchange) -> None:
    """Check everything that the model says of the members, all violations at once."""
    validate.check(_operation(exchange).input, exchange.members)


async def run_operation(exchange: Exchange) -> Response:
    """Do what is asked for, and serialise the answer."""
    operation, caller, services = _operation(exchange), _caller(exchange), exchange.desk.services
    call = Call(services, caller.account, caller.region, round(services.clock.now(), 3))
    output = await OPERATIONS[operation.name](call, exchange.members)
    return json11.success_response(operation, output, exchange.request_id)


async def find_page(exchange: Exchange) -> None:
    """Find which of our own pages is asked for."""
    own_pages.find(exchange.http)


async def admit_scraper(exchange: Exchange) -> None:
    """Find out whether the page of metrics may be read, also without a signature."""
    if scrapers.admit(exchange.http, exchange.desk.traffic.scrape_token) is scrapers.Admission.SIGNED:
        await authenticate(exchange)


async def show_page(exchange: Exchange) -> Response:
    """Answer one of our own pages."""
    return await own_pages.show(exchange)


Stage = Callable[[Exchange], Awaitable[Response | None]]

STAGES: tuple[Stage, ...] = (
    find_operation,
    check_size,
    parse,
    authenticate,
    check_constraints,
    authorize,
    run_operation,
)

OWN_STAGES: tuple[Stage, ...] = (
    find_page,
    check_size,
    authenticate,
    show_page,
)
"""Moorage's own pages, ``/_moorage/*``."""

SCRAPED_STAGES: tuple[Stage, ...] = (
    find_page,
    check_size,
    admit_scraper,
    show_page,
)
"""The page of metrics."""

OPEN_STAGES: tuple[Stage, ...] = (
    find_page,
    show_page,
)
"""The one page that everybody may see."""


def _stages_of(http: HttpRequest) -> tuple[Stage, ...]:
    if http.path == own_pages.HEALTH:
        return OPEN_STAGES
    if http.path == metrics_pages.METRICS:
        return SCRAPED_STAGES
    return OWN_STAGES if http.path.startswith(own_pages.PREFIX) else STAGES


def _operation(exchange: Exchange) -> Operation:
    if exchange.operation is None:
        raise OurFault("InternalFailure", "This stage comes after find_operation.")
    return exchange.operation


def _caller(exchange: Exchange) -> Caller:
    if exchange.caller is None:
        raise OurFault("InternalFailure", "This stage comes after authenticate.")
    return exchange.caller


class Pipeline:
    """The ASGI application."""

    def __init__(self, desk: Desk, ids: Ids) -> None:
        self._desk = desk
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request_id = self._ids.request_id()
        body = await _read_body(receive, self._desk.longest_body_bytes)
        exchange = Exchange(self._desk, _http_request(scope), body, request_id)
        try:
            response = await _run(exchange)
        except ServiceError as error:
            response = json11.error_response(error, request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            fault = OurFault("InternalFailure", f"The request failed inside Moorage; its log has it as {request_id}.")
            response = json11.error_response(fault, request_id)
        await _send(response, send)


async def _run(exchange: Exchange) -> Response:
    for stage in _stages_of(exchange.http):
        if (response := await stage(exchange)) is not None:
            return response
    raise OurFault("InternalFailure", "The last stage gives the answer.")


def _http_request(scope: Scope) -> HttpRequest:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    path = scope["raw_path"].decode("latin-1")
    return HttpRequest(scope["method"], path, scope["query_string"].decode("latin-1"), headers)


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """Read the body; None when it is larger than the limit, or the client went away with the rest."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _send(response: Response, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
