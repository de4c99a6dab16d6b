"""What tests of captured data share: endpoints that capture, stores that fail, a clock that is set by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.gateway import ACCOUNT, endpoint, variant

from moorage.base.chance import seeded_chance
from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.base.settings import Limits, Settings
from moorage.gateway.capture.recorder import Recorder
from moorage.kms.ring import KeyRing
from moorage.objects.folder import FolderStore
from moorage.objects.store import FileSpan, ObjectInfo, ObjectStore
from moorage.routing.decide import Routing, make_routing
from moorage.routing.snapshot import Capture, Endpoint, Snapshot
from moorage.telemetry.capture import Payload

BUCKET = "captures"
CAPTURE = Capture(100.0, f"s3://{BUCKET}/data", inputs=True, outputs=True, csv_types=("text/csv",))


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return 1_700_000_000.0 + self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep_until(self, deadline: float) -> None:
        self.seconds = max(self.seconds, deadline)


class FailingStore(FolderStore):
    """A folder store whose ``put`` fails the first time, the third, and so on, or is blocked."""

    def __init__(self, folder: Path) -> None:
        clock, ids = SystemClock(), SystemIds()
        super().__init__(folder, clock, ids, KeyRing(folder.parent / "kms", clock, ids))
        self.calls = 0
        self.fails_every_second = False
        self.unblocked = asyncio.Event()
        self.unblocked.set()

    async def put(
        self, bucket: str, key: str, body: AsyncIterator[bytes] | FileSpan, *more: Any, **named: Any
    ) -> ObjectInfo:
        self.calls += 1
        await self.unblocked.wait()
        made = await super().put(bucket, key, body, *more, **named)
        if self.fails_every_second and self.calls % 2:
            raise OSError("the store has lost its answer")
        return made


def captured_endpoint(name: str = "ep", capture: Capture | None = CAPTURE) -> Endpoint:
    return replace(endpoint(name, variant("v1")), capture=capture)


def routing(*endpoints: Endpoint) -> Routing:
    return make_routing(Snapshot(1, {}, {(e.account, e.region, e.name): e for e in endpoints}))


def make_recorder(folder: Path, store: ObjectStore, clock: Any = None, **limits: Any) -> Recorder:
    settings = Settings(folder, folder, limits=replace(Limits(), **limits))
    return Recorder(settings, clock or SystemClock(), seeded_chance(1), SystemIds(), store, event_ids=SystemIds())


async def make_store(folder: Path) -> FailingStore:
    store = FailingStore(folder / "objects")
    await store.create_bucket(BUCKET, account=ACCOUNT, region="us-east-1")
    return store


def payload(body: bytes, content_type: str | None = "text/csv") -> Payload:
    return Payload(content_type, [body], len(body))


def offer(recorder: Recorder, endpoint: Endpoint, body: bytes = b"1,2", variant: str = "v1", at: float = 0.0) -> None:
    recorder.offer(endpoint, variant, payload(body), payload(b"0.5"), at=at or 1_700_000_000.0)


async def objects(store: ObjectStore, prefix: str = "data/") -> dict[str, bytes]:
    """Give all objects of the bucket with their bytes."""
    found = {}
    for info in (await store.list(BUCKET, prefix=prefix)).objects:
        reader = await store.open(BUCKET, info.key)
        found[info.key] = b"".join([piece async for piece in reader.chunks()])
        await reader.close()
    return found


async def records(store: ObjectStore, prefix: str = "data/") -> list[dict[str, Any]]:
    """Give all records of the bucket."""
    return [json.loads(line) for body in (await objects(store, prefix)).values() for line in body.splitlines()]


def inputs_of(found: list[dict[str, Any]]) -> list[str]:
    return sorted(record["captureData"]["endpointInput"]["data"] for record in found)


def spooled(folder: Path) -> list[Path]:
    return sorted((folder / "spool").rglob("*.jsonl"))
