"""The control plane as a process: what is made at start, in which order, and how it ends.

Order matters: keys and the last routing are there before anybody is answered, and nothing is decided about endpoints
before the node agent has said what runs.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

import orjson

from moorage import __version__
from moorage.base.clock import Clock, SystemClock
from moorage.base.files import write_whole
from moorage.base.http import answering, open_socket
from moorage.base.ids import SystemIds
from moorage.base.link import connect, listen
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.control.capacity import capacity_of
from moorage.control.data import DataFinder
from moorage.control.events import EventFeed, Recorder
from moorage.control.exchange import Desk
from moorage.control.keyring import Keyring
from moorage.control.kms_keys import key_finder
from moorage.control.ledger import Ledger
from moorage.control.metrics_pages import Traffic, ready_instances
from moorage.control.node_link import NodeLink
from moorage.control.operations.call import Services
from moorage.control.pipeline import Pipeline
from moorage.control.planning.observed import Patience
from moorage.control.publish import Publisher
from moorage.control.reconcile import Reconciler, World
from moorage.engine.contract import InstanceReport, InstanceState
from moorage.engine.images import builtin
from moorage.engine.images.added import AddedPythons
from moorage.kms.ring import open_ring
from moorage.objects.folder import open_store
from moorage.objects.web import Web
from moorage.routing.snapshot import Snapshot
from moorage.state.events import Retention
from moorage.state.records import KeyRecord
from moorage.state.store import FileStore
from moorage.telemetry.courier import Courier
from moorage.telemetry.delta import Key
from moorage.telemetry.webhook import Webhook

log = logging.getLogger(__name__)

_FINISH_SECONDS = 5
_DRAIN_MARGIN_SECONDS = 5.0
_CAPACITY_SECONDS = 1800.0
"""How long capacity may be short before a creation fails (control-plane.md section 6.2, rule 2)."""


def run(settings: Settings) -> None:
    """Be the control plane until SIGTERM."""
    run_process("control", lambda stop: serve(settings, stop))


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    clock, ids, tasks = SystemClock(), SystemIds(), Tasks()
    async with contextlib.AsyncExitStack() as stack:
        store = await asyncio.to_thread(FileStore, settings.data_dir / "state.db")
        stack.callback(store.close)
        stack.push_async_callback(tasks.close)
        publisher = await _open_publisher(settings, tasks)
        keyring = Keyring(store, publisher, clock, await asyncio.to_thread(_first_key, settings.data_dir, clock))
        await keyring.load()
        node = NodeLink(lambda: connect(settings.run_dir / "node.sock"), clock)
        ledger = await _open_ledger(settings, store, publisher, node, clock)
        capacity = capacity_of(settings, lambda: node.machine, lambda: node.gpu_driver)
        recorder = Recorder(node, publisher, clock, ids, _retention(settings))
        store.call_witness(recorder.witness)
        world = World(
            store=store,
            node=node,
            publisher=publisher,
            recorder=recorder,
            clock=clock,
            ids=ids,
            patience=_patience(settings),
            capacity=capacity,
            started_at=clock.now(),
        )
        reconciler = Reconciler(world, tasks)
        snapshots = await listen(settings.run_dir / "snapshots.sock", publisher.serve)
        stack.callback(snapshots.close)
        tasks.start("gateways to be met", publisher.meet(reconciler.wake_all))
        tasks.start("link to the node agent", node.run(reconciler.wake_all))
        tasks.start("metrics", ledger.run())
        objects = open_store(settings, clock, ids)
        stack.callback(objects.close)
        pythons = AddedPythons(settings.data_dir)
        services = Services(
            store,
            clock,
            node,
            publisher,
            lambda uri: node.runs_images or pythons.find(uri) is not None or is_built_in(uri),
            DataFinder(objects, Web()).has_data,
            capacity,
            settings.quotas,
            key_finder(open_ring(settings, clock, ids)),
        )
        feed = EventFeed(store, clock, await _start_courier(settings, store, clock, tasks))
        about = {"version": __version__, "region": settings.region, "account": settings.account}
        traffic = Traffic(ledger, publisher, settings.run_dir, __version__, settings.metrics_token)
        desk = Desk(services, keyring, feed, clock, settings.limits.api_body_bytes, about, traffic)
        listener = open_socket(settings.run_dir / "control.sock")
        async with answering(Pipeline(desk, ids), listener, stop, finish_seconds=_FINISH_SECONDS):
            log.info("ready")
            await stop.wait()
            feed.close()
        await ledger.write()


def _patience(settings: Settings) -> Patience:
    limits = settings.limits
    longest = max(limits.invocation_timeout_seconds, limits.stream_timeout_seconds)
    return Patience(
        drain_seconds=longest + _DRAIN_MARGIN_SECONDS,
        capacity_seconds=_CAPACITY_SECONDS,
        download_seconds=limits.download_timeout_seconds,
        startup_seconds=limits.startup_timeout_seconds,
    )


def _retention(settings: Settings) -> Retention:
    return Retention(settings.limits.events_kept, settings.limits.events_kept_seconds)


async def _open_ledger(
    settings: Settings, store: FileStore, publisher: Publisher, node: NodeLink, clock: Clock
) -> Ledger:
    """Hear what the gateways have counted, going on where the control plane before this one ended."""
    ledger = Ledger(
        store,
        clock,
        settings.limits.metrics_kept_seconds,
        lambda: ready_instances(publisher),
        lambda: loaded_models(node.all_reports()),
    )
    await ledger.load()
    publisher.report_to(ledger)
    return ledger


def loaded_models(reports: Iterable[InstanceReport]) -> list[tuple[Key, int]]:
    """Give how many models each ready instance of many has loaded, by its variant."""
    return [
        ((report.account, report.region, report.endpoint, report.variant), report.loaded_models)
        for report in reports
        if report.loaded_models is not None and report.state is InstanceState.READY
    ]


async def _start_courier(settings: Settings, store: FileStore, clock: Clock, tasks: Tasks) -> Courier | None:
    """Begin to carry events to the webhook, if there is one."""
    if not settings.event_webhook:
        return None
    webhook = await asyncio.to_thread(Webhook, settings.event_webhook)  # reads the certificates that are trusted
    courier = Courier(store, clock, webhook.post, webhook.origin)
    tasks.start("events to the webhook", courier.run())
    return courier


async def _open_publisher(settings: Settings, tasks: Tasks) -> Publisher:
    """Go on from what was last published."""
    path = settings.data_dir / "snapshot.json"

    async def save(content: bytes) -> None:
        await asyncio.to_thread(write_whole, path, content)

    return Publisher(await asyncio.to_thread(_last_snapshot, path), save, tasks, gateways=settings.gateways)


def _last_snapshot(path: Path) -> Snapshot:
    try:
        return Snapshot.from_message(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return Snapshot(version=0)


def _first_key(data_dir: Path, clock: Clock) -> KeyRecord | None:
    """Read the key that the supervisor has made."""
    path = data_dir / "credentials.json"
    if not path.exists():
        return None
    content = json.loads(path.read_bytes())
    return KeyRecord(
        access_key_id=content["access_key_id"],
        secret_access_key=content["secret_access_key"],
        account=content["account"],
        user_name=content["user_name"],
        created_at=round(clock.now(), 3),
    )


def is_built_in(uri: str) -> bool:
    """Say whether an image URI stands for something that needs no image."""
    return builtin.resolve(uri) is not None
