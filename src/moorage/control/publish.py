"""The routing as gateways know it: made whole, written to disk, sent, and waited for.

The file is written before the snapshot is sent, so that a gateway which starts while the control plane is away
never goes back behind what others route by. A gateway is sent one snapshot at a time, always the newest; one that
does not apply it in time has lost its way, and its link is closed: it calls again and starts afresh.

An instance is *in use* by a gateway from the moment a snapshot that has it is sent until the gateway says that it is
drained, or is gone.

What a gateway uses is known only of those that have called. A control plane that has just been started therefore
decides nothing before all gateways have (``meet``); and a gateway that has just been started serves nobody before it
has heard from the control plane, if there is one (``gateway/process.py``). Between the two, no gateway sends to an
instance that is believed to be unused.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import orjson

from moorage.aws.credentials import Credential
from moorage.base.link import Link, LinkClosed, Message
from moorage.base.tasks import Tasks
from moorage.control.ledger import Ledger
from moorage.routing.snapshot import Endpoint, Snapshot
from moorage.state.records import EndpointKey

log = logging.getLogger(__name__)

_HELLO_SECONDS = 5.0
_APPLY_SECONDS = 10.0

_MEET_SECONDS = 1.0
"""For the first gateway: there may be none."""

_MEET_OTHERS_SECONDS = 5.0
"""For the others once the first has called: they are on their way, unless one cannot live at all."""

Save = Callable[[bytes], Awaitable[None]]
"""Puts a snapshot where gateways find it when they start; returns when the disk has it."""

Wake = Callable[[Iterable[EndpointKey]], None]


class _Follower:
    """A gateway or neighbour that has called."""

    def __init__(self, link: Link, role: str) -> None:
        self.link = link
        self.role = role
        self.applied = -1
        self.in_use: set[str] = set()
        self.news = asyncio.Event()
        self.answer = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{self.role}: applied {self.applied}, {len(self.in_use)} instances in use>"


class Publisher:
    """The one who writes the routing."""

    def __init__(self, snapshot: Snapshot, save: Save, tasks: Tasks, *, gateways: int = 1) -> None:
        """Go on from a snapshot; ``gateways`` is how many there are to be met."""
        self._snapshot = snapshot
        self._keys: Mapping[str, Credential] = snapshot.keys
        self._token_secret = snapshot.token_secret
        self._routes = dict(snapshot.endpoints)
        self._tags = dict(snapshot.tags)
        self._first_version = snapshot.version
        self._first_instances = frozenset(_instances_of(snapshot))
        self._changed_in: dict[EndpointKey, int] = {}
        self._keys_in = snapshot.version
        self._waiting: set[EndpointKey] = set()
        self._owners: dict[str, EndpointKey] = {}
        self._followers: set[_Follower] = set()
        self._save = save
        self._tasks = tasks
        self._writing = asyncio.Lock()
        self._gateways_wanted = gateways
        self._met_first = asyncio.Event()
        self._met_all = asyncio.Event()
        self._ready = False
        self._wake: Wake = lambda _keys: None
        self._ledger: Ledger | None = None
        self._note_owners()

    def __repr__(self) -> str:
        return f"<Publisher: version {self._snapshot.version}, followers {sorted(map(repr, self._followers))}>"

    def tell(self, wake: Wake) -> None:
        """Say who wants to hear of endpoints whose routing has come into force or been drained."""
        self._wake = wake

    def report_to(self, ledger: Ledger) -> None:
        """Say who hears what the gateways have counted."""
        self._ledger = ledger

    @property
    def ready(self) -> bool:
        """Whether the gateways of the control plane before this one have been met; nothing is decided before.

        Until they have called, nobody knows which instances they use.
        """
        return self._ready

    def keys_in_force(self) -> bool:
        """Say whether everybody who has called knows the keys, so that the API can be used."""
        return self._ready and all(follower.applied >= self._keys_in for follower in self._followers)

    async def meet(self, wake_all: Callable[[], None]) -> None:
        """Wait for the gateways, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MEET_SECONDS):
                await self._met_first.wait()
            async with asyncio.timeout(_MEET_OTHERS_SECONDS):
                await self._met_all.wait()
        self._ready = True
        wake_all()

    @property
    def published(self) -> frozenset[EndpointKey]:
        """The endpoints that are in the routing."""
        return frozenset(EndpointKey(*key) for key in self._routes)

    @property
    def routes(self) -> Iterable[Endpoint]:
        """What was last published of all endpoints."""
        return self._snapshot.endpoints.values()

    def route_of(self, key: EndpointKey) -> Endpoint | None:
        """Give what was last published of an endpoint."""
        return self._snapshot.endpoints.get(key)

    def in_force(self, key: EndpointKey) -> bool:
        """Say whether all gateways route by what was last published of an endpoint; who hears no is woken later."""
        version = self._changed_in.get(key, self._first_version)
        if all(follower.applied >= version for follower in self._gateways()):
            return True
        self._waiting.add(key)
        return False

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        self._wake(waiting)

    def found(self, instance_id: str) -> bool:
        """Say whether an instance was in the routing that this publisher has found and sent first.

        Of those that were not, a gateway may be draining some that have left it before, and nobody has told.
        """
        return instance_id in self._first_instances

    def in_use(self) -> frozenset[str]:
        """Give the instances that some gateway may be sending to or awaiting an answer from."""
        return frozenset[str]().union(*(follower.in_use for follower in self._gateways()))

    async def publish_keys(self, keys: Mapping[str, Credential], token_secret: str = "") -> None:
        """Publish the access keys, and the secret that session tokens are made with."""
        self._keys = dict(keys)
        self._token_secret = token_secret
        await self._publish()

    async def publish_route(
        self, key: EndpointKey, route: Endpoint | None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Publish what is to be known of an endpoint; returns when it is on disk and on its way."""
        if route is None:
            self._routes.pop(key, None)
        else:
            self._routes[key] = route
        if route is None or not tags:
            self._tags.pop(key, None)
        else:
            self._tags[key] = dict(tags)
        await self._publish()

    async def _publish(self) -> None:
        """Publish what has been asked for, together with whatever others have asked for meanwhile."""
        async with self._writing:
            before = self._snapshot
            after = Snapshot(before.version + 1, self._keys, dict(self._routes), self._token_secret, dict(self._tags))
            if replace(after, version=before.version) == before:
                return
            await self._save(orjson.dumps(after.to_message()))
            self._snapshot = after
            if after.keys != before.keys:
                self._keys_in = after.version
            for key in {*before.endpoints, *after.endpoints}:
                if before.endpoints.get(key) != after.endpoints.get(key):
                    self._changed_in[EndpointKey(*key)] = after.version
                    self._waiting.add(EndpointKey(*key))
            self._note_owners()
            for follower in self._followers:
                follower.news.set()
            if not self._gateways():
                self._wake_waiting()  # nobody will answer: it is in force

    def _note_owners(self) -> None:
        used = self.in_use()
        kept = {instance_id: key for instance_id, key in self._owners.items() if instance_id in used}
        for key, endpoint in self._snapshot.endpoints.items():
            for instance in endpoint.instances:
                kept[instance.instance_id] = EndpointKey(*key)
        self._owners = kept

    def _note_meeting(self) -> None:
        met = sum(1 for follower in self._gateways() if follower.applied >= 0)
        if met >= 1:
            self._met_first.set()
        if met >= self._gateways_wanted:
            self._met_all.set()

    def _gateways(self) -> list[_Follower]:
        return [follower for follower in self._followers if follower.role == "gateway"]

    async def serve(self, link: Link) -> None:
        """Answer one call, until the caller goes."""
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                hello = await link.receive()
        except (TimeoutError, LinkClosed):
            return
        follower = _Follower(link, str(hello.get("role")))
        follower.news.set()
        self._followers.add(follower)
        sending = self._tasks.start(f"snapshots to a {follower.role}", self._send(follower))
        try:
            async for message in link.messages():
                self._hear(follower, message)
        finally:
            sending.cancel()
            self._followers.discard(follower)
            if self._ledger is not None:
                self._ledger.left(link)
            self._wake(self._owners_of(follower.in_use))
            self._wake_waiting()

    async def _send(self, follower: _Follower) -> None:
        """Send each newest snapshot and wait until it is applied."""
        try:
            while await follower.news.wait():
                follower.news.clear()
                snapshot = self._snapshot
                follower.answer.clear()
                # From here on the gateway may know these instances, whether or not it ever answers.
                follower.in_use |= _instances_of(snapshot)
                async with asyncio.timeout(_APPLY_SECONDS):
                    await follower.link.send({"op": "snapshot", "snapshot": snapshot.to_message()})
                    while follower.applied < snapshot.version and follower.role == "gateway":
                        await follower.answer.wait()
                        follower.answer.clear()
        except TimeoutError:
            log.warning("%r has not applied version %d in time", follower, self._snapshot.version)
            await follower.link.close()
        except LinkClosed:
            return

    def _hear(self, follower: _Follower, message: Message) -> None:
        match message.get("op"):
            case "applied":
                follower.applied = int(message["version"])
                follower.answer.set()
                self._note_meeting()
                self._wake_waiting()
            case "drained":
                drained = set(message["instance_ids"])
                owners = self._owners_of(drained)
                follower.in_use -= drained - _instances_of(self._snapshot)
                self._wake(owners)
            case "unreachable":
                log.info("a gateway cannot reach instance %s", message["instance_id"])
                self._wake(self._owners_of({message["instance_id"]}))
            case "metrics":
                if self._ledger is not None:
                    self._ledger.hear(follower.link, message)
            case unknown:
                log.warning("a %s says %r, which nobody understands", follower.role, unknown)

    def _owners_of(self, instance_ids: Iterable[str]) -> set[EndpointKey]:
        return {self._owners[instance_id] for instance_id in instance_ids if instance_id in self._owners}


def _instances_of(snapshot: Snapshot) -> set[str]:
    return {instance.instance_id for endpoint in snapshot.endpoints.values() for instance in endpoint.instances}
