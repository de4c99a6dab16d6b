"""Has models loaded and unloaded, as the shelf decides, and tells those who wait what it has come to.

One task a load and one an unload. A load fetches the files, asks the container, and may take longer than anybody waits
for it: it goes on, so that a later invocation finds it done (data-plane.md section 8.1).
"""

import asyncio
import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.engine.artifacts import ArtifactFailure
from moorage.front.models.contract import Contract, NoReply, Reply
from moorage.front.models.library import Library, NoSuchModel
from moorage.front.models.shelf import Book, Load, Shelf, State, Unload
from moorage.gateway.fronts import Fault, FaultKind

log = logging.getLogger(__name__)

UNLOAD_SECONDS = 60.0
"""For the container to unload a model."""

CHECK_SECONDS = 5.0
"""For it to say whether it has one."""

WAIT, DOWNLOADING, LOADING, UNLOADING, HIT = (
    "ModelLoadingWaitTime",
    "ModelDownloadingTime",
    "ModelLoadingTime",
    "ModelUnloadingTime",
    "ModelCacheHit",
)
"""Metrics of multi-model endpoints (data-plane.md section 11)."""

_MICROSECONDS = 1_000_000
_MOST_MEASURES = 1_000
_THERE_ALREADY = 409
_NO_MEMORY = 507


class Waiter(Protocol):
    """An invocation that waits for a model."""

    def model_loaded(self) -> None:
        """Go on: it uses the model now."""

    def model_refused(self, fault: Fault) -> None:
        """Hear that the model cannot be had."""


class Keeper:
    """The models of one container."""

    def __init__(  # noqa: PLR0913 - it brings all of them together
        self,
        shelf: Shelf,
        contract: Contract,
        library: Library,
        tasks: Tasks,
        clock: Clock,
        *,
        load_seconds: float,
        keeps_files: bool,
        tell_count: Callable[[int], None],
    ) -> None:
        """Let a load take ``load_seconds`` at most; without ``keeps_files`` a model's go when it is unloaded."""
        self._shelf = shelf
        self._contract = contract
        self._library = library
        self._tasks = tasks
        self._clock = clock
        self._load_seconds = load_seconds
        self._keeps_files = keeps_files
        self._tell_count = tell_count
        self._told_count = -1
        self._uris: dict[str, str] = {}
        """Of models that are wanted and not loaded."""
        self._waiting: dict[Book, list[Waiter]] = {}
        self._begun: dict[Book, float] = {}
        """When the loads that go on, or are short of memory, have begun."""
        self._room_wanted: dict[Book, asyncio.Event] = {}
        self._measures: deque[tuple[str, int]] = deque(maxlen=_MOST_MEASURES)

    def __repr__(self) -> str:
        return f"<Keeper of {self._shelf!r}>"

    async def begin(self) -> None:
        """Take over what the container and the disk have already; raises NoReply."""
        for name in await self._contract.loaded():
            self._shelf.adopt(name)
        for name in await asyncio.to_thread(self._library.names):
            self._shelf.stored(name)
        self._say_count()

    # Invocations

    def use(self, name: str, uri: str, waiter: Waiter) -> Book:
        """Begin an invocation: when the model is not loaded now, the waiter is told later."""
        book = self._shelf.use(name)
        if book.state is not State.LOADED:
            self._uris[name] = uri
            self._waiting.setdefault(book, []).append(waiter)
            self._act()
        return book

    def stop_waiting(self, book: Book, waiter: Waiter) -> None:
        """End an invocation that has waited for long enough."""
        self._waiting[book].remove(waiter)
        self._shelf.stop_waiting(book)

    def done(self, book: Book) -> None:
        """End an invocation that used the model."""
        self._shelf.done(book)
        self._act()

    def lost(self, book: Book) -> None:
        """Take note that the container does not have a model any more."""
        self._shelf.lost(book)
        self._act()

    def doubt(self, book: Book) -> None:
        """Look whether the container still has a model that gave no answer."""
        self._tasks.start(f"look for {book.name}", self._look(book))

    def is_present(self, book: Book) -> bool:
        """Say whether a model has been there without a break since an invocation began to use it."""
        return self._shelf.get(book.name) is book

    async def has(self, book: Book) -> bool:
        """Say whether the container has a model; True where it does not say."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._contract.has(book.name)
        except (NoReply, TimeoutError):
            return True

    async def make_room(self, book: Book) -> bool:
        """Unload another model for one that lacks memory while it is used; False: there is none to be unloaded."""
        other = self._shelf.make_room(book)
        if other is None:
            return False
        gone = self._room_wanted[other] = asyncio.Event()
        self._act()
        await gone.wait()
        return True

    def take_measures(self) -> list[tuple[str, int]]:
        """Give what was measured since, to be told with the next answer."""
        measures = list(self._measures)
        self._measures.clear()
        return measures

    def sweep(self, now: float) -> None:
        """Give up the loads that have been short of memory for too long."""
        for book, begun in list(self._begun.items()):
            if book.state is State.SHORT and now - begun > self._load_seconds:
                self._fail(book, Fault(FaultKind.NOT_READY))

    # Acting

    def _act(self) -> None:
        for action in self._shelf.todo():
            match action:
                case Load(book):
                    self._tasks.start(f"load {book.name}", self._load(book))
                case Unload(book):
                    self._tasks.start(f"unload {book.name}", self._unload(book))

    async def _load(self, book: Book) -> None:
        begun = self._begun.setdefault(book, self._clock.monotonic())
        try:
            async with asyncio.timeout(self._load_seconds - (self._clock.monotonic() - begun)):
                reply = await self._try_to_load(book)
        except TimeoutError:
            log.warning("loading the model %s took longer than %g s", self._uris[book.name], self._load_seconds)
            self._fail(book, Fault(FaultKind.NOT_READY))
        except NoSuchModel:
            self._fail(book, Fault(FaultKind.NO_MODEL, {"uri": self._uris[book.name]}))
        except ArtifactFailure as failure:
            self._fail(book, Fault(FaultKind.BAD_MODEL, {"uri": self._uris[book.name], "reason": str(failure)}))
        except NoReply:
            self._fail(book, Fault(FaultKind.NO_ANSWER))
        except Exception:  # whoever waits must hear of it
            log.exception("the model %s could not be loaded", book.name)
            self._fail(book, Fault(FaultKind.FAILED))
        else:
            self._judge(book, reply)

    async def _try_to_load(self, book: Book) -> Reply:
        begun = self._clock.monotonic()
        url = await self._bring(book)
        brought = self._clock.monotonic()
        self._measure(DOWNLOADING, brought - begun)
        reply = await self._contract.load(book.name, url)
        if 200 <= reply.status < 300:
            self._measure(LOADING, self._clock.monotonic() - brought)
        return reply

    async def _bring(self, book: Book) -> str:
        """Have the files there, and give where the container sees them; makes room on a disk that is full."""
        while await asyncio.to_thread(self._library.is_full) and await self._remove_one():
            pass
        while True:
            try:
                url = await self._library.bring(book.name, self._uris[book.name])
            except ArtifactFailure as failure:
                if not _disk_was_full(failure) or not await self._remove_one():
                    raise
            else:
                self._shelf.stored(book.name)
                return url

    async def _remove_one(self) -> bool:
        """Remove the files that were needed longest ago; False: all are needed."""
        name = self._shelf.removable()
        if name is None:
            return False
        self._shelf.removed(name)
        await self._library.remove(name)
        return True

    def _judge(self, book: Book, reply: Reply) -> None:
        """Take note of what the container has said of a load."""
        if 200 <= reply.status < 300 or reply.status == _THERE_ALREADY:
            del self._begun[book]
            self._uris.pop(book.name, None)
            waiting = self._waiting.pop(book, [])
            self._shelf.loaded(book)
            for waiter in waiting:
                waiter.model_loaded()
            self._act()
            self._say_count()
        elif reply.status == _NO_MEMORY and self._shelf.no_room(book):
            self._act()
        else:
            body = reply.body.decode("utf-8", "replace")
            self._fail(book, Fault(FaultKind.NOT_LOADED, {"status": reply.status, "body": body}))

    def _fail(self, book: Book, fault: Fault) -> None:
        """Tell all who wait for a model that it cannot be had."""
        del self._begun[book]
        self._uris.pop(book.name, None)
        waiting = self._waiting.pop(book, [])
        if self._shelf.get(book.name) is book:  # else the shelf has given it up itself
            self._shelf.failed(book)
        for waiter in waiting:
            waiter.model_refused(fault)
        self._act()

    async def _unload(self, book: Book) -> None:
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(UNLOAD_SECONDS):
                reply = await self._contract.unload(book.name)
            if reply.status not in {200, 404}:
                log.warning("unloading the model %s was answered %d", book.name, reply.status)
        except (NoReply, TimeoutError) as fault:
            log.warning("the model %s could not be unloaded: %s", book.name, fault or "no answer in time")
        self._measure(UNLOADING, self._clock.monotonic() - begun)
        if not self._keeps_files:
            with contextlib.suppress(OSError):
                await self._library.remove(book.name)
            self._shelf.removed(book.name)
        self._shelf.unloaded(book)
        if (gone := self._room_wanted.pop(book, None)) is not None:
            gone.set()
        self._act()
        self._say_count()

    async def _look(self, book: Book) -> None:
        if not await self.has(book):
            self.lost(book)
            self._say_count()

    def _measure(self, metric: str, seconds: float) -> None:
        self._measures.append((metric, int(seconds * _MICROSECONDS)))

    def _say_count(self) -> None:
        if self._shelf.loaded_count != self._told_count:
            self._told_count = self._shelf.loaded_count
            self._tell_count(self._told_count)


def _disk_was_full(failure: ArtifactFailure) -> bool:
    return isinstance(failure.__cause__, OSError) and failure.__cause__.errno == errno.ENOSPC
