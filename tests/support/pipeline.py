"""The control plane's pipeline in the test's own event loop, without sockets, reconciler and node agent."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign
from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.base.link import Link, LinkClosed
from moorage.base.tasks import Tasks
from moorage.control.capacity import Capacity
from moorage.control.events import EventFeed
from moorage.control.exchange import Desk
from moorage.control.keyring import Keyring
from moorage.control.ledger import Ledger
from moorage.control.metrics_pages import Traffic
from moorage.control.node_link import NodeLink
from moorage.control.operations.call import Services
from moorage.control.pipeline import Pipeline
from moorage.control.publish import Publisher
from moorage.engine.contract import ModelSource
from moorage.routing.snapshot import Snapshot
from moorage.state.records import KeyRecord
from moorage.state.store import InlineStore

LONGEST_BODY_BYTES = 1_048_576

_KEY = KeyRecord("AKIATESTTESTTESTTEST", "secret-of-the-tests-and-of-nobody-else-00", "000000000000", "tester", 0.0)
_CREDENTIAL = Credential(_KEY.access_key_id, _KEY.secret_access_key, _KEY.account, _KEY.user_name)


@dataclass
class Counter:
    """Asks the pipeline, as a server does."""

    app: Pipeline
    clock: SystemClock
    desk: Desk

    async def send(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """Send a signed request; gives status and body of the answer."""
        headers = [
            ("host", "moorage"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", f"SageMaker.{operation}"),
        ]
        digest = hashlib.sha256(body).hexdigest()
        request = HttpRequest("POST", "/", "", headers)
        now = self.clock.now()
        headers += sign(request, digest, _CREDENTIAL, region="us-east-1", service="sagemaker", timestamp=now)
        return await self._answer(headers, body)

    async def ask(self, operation: str, members: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send members; gives status and content."""
        status, content = await self.send(operation, json.dumps(members).encode())
        return status, json.loads(content) if content else {}

    async def page(
        self, path: str, *, key: Credential | None = _CREDENTIAL, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Get one of Moorage's own pages, signed or (``key`` None) not; gives status, headers and body."""
        given = [("host", "moorage"), *((name.replace("_", "-"), value) for name, value in headers.items())]
        given = list(dict(given).items())
        if key is not None:
            request = HttpRequest("GET", path, "", given)
            digest = hashlib.sha256(b"").hexdigest()
            now = self.clock.now()
            given += sign(request, digest, key, region="us-east-1", service="sagemaker", timestamp=now)
        sent = await self._exchange("GET", path, given, b"")
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])

    async def _answer(self, headers: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        sent = await self._exchange("POST", "/", headers, body)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    async def _exchange(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> list[MutableMapping[str, Any]]:
        sent: list[MutableMapping[str, Any]] = []
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": b"",
            "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent


@contextlib.asynccontextmanager
async def open_counter(folder: Path, *, scrape_token: str = "") -> AsyncIterator[Counter]:
    """Open a control plane that answers, and does nothing else."""
    clock, ids, tasks = SystemClock(), SystemIds(), Tasks()
    store = InlineStore(folder / "state.db")

    async def nowhere(_content: bytes) -> None:
        """Snapshots are read by nobody here."""

    async def no_node() -> Link:
        raise LinkClosed

    async def has_data(_account: str, _source: ModelSource) -> bool:
        return True

    publisher = Publisher(Snapshot(version=0), nowhere, tasks)
    keyring = Keyring(store, publisher, clock, _KEY)
    await keyring.load()
    node = NodeLink(no_node, clock)
    capacity = Capacity(lambda: node.machine)
    services = Services(store, clock, node, publisher, lambda _uri: True, has_data, capacity)
    traffic = Traffic(Ledger(store, clock, 60.0, lambda: ()), publisher, folder, "1.2.3", scrape_token)
    desk = Desk(services, keyring, EventFeed(store, clock, None), clock, LONGEST_BODY_BYTES, {}, traffic)
    try:
        yield Counter(Pipeline(desk, ids), clock, desk)
    finally:
        await tasks.close()
        store.close()
