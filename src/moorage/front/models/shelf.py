"""Which models of a multi-model container are loaded, and which is to be loaded or unloaded next; no input or output.

The one who acts tells what has happened (``use``, ``loaded``, ``no_room``, ...) and then does what ``todo`` says. A
model that is known here is in one of these states (data-plane.md section 8.1):

    =========  ===========================================  ====================================================
    state      event                                        next
    =========  ===========================================  ====================================================
    QUEUED     ``todo``, when few enough are being loaded   LOADING
    LOADING    ``loaded``                                   LOADED, and whoever waited for it uses it
    LOADING    ``no_room`` and others may make room         SHORT
    LOADING    ``no_room`` although nothing else was there  gone: it cannot be had
    any before ``failed``                                   gone
    SHORT      ``todo``, when room was made                 LOADING
    LOADED     ``todo``, when its room is needed            UNLOADING; DRAINING while invocations use it
    DRAINING   ``done`` of the last one that uses it        UNLOADING
    UNLOADING  ``unloaded``                                 gone, or QUEUED when somebody waits for it
    =========  ===========================================  ====================================================

Room is made by the model that was used longest ago, an idle one if there is any. While a load is short of memory no
further one is begun, which would take the room that is being made. Loads that fit only one at a time do not starve
each other: one that had company when it found no room is tried again alone before it is given up.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto


class State(Enum):
    """Where a model is between being asked for and being forgotten."""

    QUEUED = auto()
    LOADING = auto()
    SHORT = auto()
    LOADED = auto()
    DRAINING = auto()
    UNLOADING = auto()


class Book:
    """One model that is on the shelf or on its way."""

    __slots__ = ("alone", "name", "state", "users", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.QUEUED
        self.users = 0
        """Invocations that use it now."""
        self.waiting = 0
        """Invocations that wait until it is loaded."""
        self.alone = False
        """Nothing else has been in memory since its load began."""

    def __repr__(self) -> str:
        return f"<Book {self.name}: {self.state.name}, {self.users} users, {self.waiting} waiting>"


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model now."""

    book: Book


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this model now: nobody uses it."""

    book: Book


class Shelf:
    """The models of one container."""

    def __init__(self, *, most_loads: int, caches: bool = True) -> None:
        """``most_loads`` go on at a time; without ``caches`` a model is unloaded as soon as nobody uses it."""
        self._most_loads = most_loads
        self._caches = caches
        self._books: OrderedDict[str, Book] = OrderedDict()
        """By name, the one that was used longest ago first."""
        self._queue: deque[Book] = deque()
        self._loading: set[Book] = set()
        self._exclusive: Book | None = None
        """A load beside which no other may begin."""
        self._short: deque[Book] = deque()
        self._victim: Book | None = None
        """It makes room for the first that is short of memory."""
        self._room_made = False
        """For the first that is short of memory."""
        self._leaving: list[Book] = []
        """UNLOADING, and not told yet."""
        self._stored: OrderedDict[str, None] = OrderedDict()
        """Models whose files are there, needed longest ago first."""
        self.loaded_count = 0
        """Models that are in memory."""

    def __repr__(self) -> str:
        return (
            f"<Shelf: {self.loaded_count} loaded, {len(self._loading)} loading, {len(self._short)} short of memory, "
            f"{len(self._queue)} queued, {len(self._stored)} stored>"
        )

    def get(self, name: str) -> Book | None:
        """Give a model that is known here."""
        return self._books.get(name)

    # What invocations do

    def use(self, name: str) -> Book:
        """Begin an invocation: it uses the model if that is LOADED, else it waits until it is."""
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = Book(name)
            self._queue.append(book)
        else:
            self._books.move_to_end(name)
        if book.state is State.LOADED:
            book.users += 1
        else:
            book.waiting += 1
        return book

    def stop_waiting(self, book: Book) -> None:
        """End an invocation that has waited for long enough; the load goes on."""
        book.waiting -= 1

    def done(self, book: Book) -> None:
        """End an invocation that used a model."""
        book.users -= 1
        if self._books.get(book.name) is not book:  # it was lost meanwhile
            return
        self._books.move_to_end(book.name)
        if book.users == 0 and (book.state is State.DRAINING or (book.state is State.LOADED and not self._caches)):
            self._begin_unloading(book)

    def lost(self, book: Book) -> None:
        """Take note that the container does not have a model any more that it had; who wants it asks anew."""
        if self._books.get(book.name) is book and book.state in {State.LOADED, State.DRAINING}:
            self._leave_memory(book)

    def make_room(self, book: Book) -> Book | None:
        """Begin to unload another model than this one, which is LOADED and lacks memory; None: none is idle."""
        other = next((one for one in self._idle() if one is not book), None)
        if other is not None:
            self._begin_unloading(other)
        return other

    def adopt(self, name: str) -> None:
        """Take note of a model that was loaded before this shelf was there."""
        book = self._books[name] = Book(name)
        book.state = State.LOADED
        self.loaded_count += 1

    # What loads and unloads come to

    def loaded(self, book: Book) -> None:
        """Take note of a load that has succeeded: all who waited use the model."""
        self._end_loading(book)
        book.state = State.LOADED
        book.users += book.waiting
        book.waiting = 0
        self.loaded_count += 1
        self._books.move_to_end(book.name)
        if book.users == 0 and not self._caches:
            self._begin_unloading(book)

    def no_room(self, book: Book) -> bool:
        """Take note of a load that has found too little memory; False: nothing can make room, it is given up."""
        self._end_loading(book)
        if book.alone:
            del self._books[book.name]
            return False
        book.state = State.SHORT
        self._short.append(book)
        return True

    def failed(self, book: Book) -> None:
        """Take note of a load that has failed for another reason, or that is given up in any state before LOADED."""
        match book.state:
            case State.QUEUED:
                self._queue.remove(book)
            case State.LOADING:
                self._end_loading(book)
            case State.SHORT:
                self._short.remove(book)
        del self._books[book.name]

    def unloaded(self, book: Book) -> None:
        """Take note that a model has left the memory."""
        self._leave_memory(book)

    # What is on the disk

    def stored(self, name: str) -> None:
        """Take note that a model's files are there, and needed now."""
        self._stored[name] = None
        self._stored.move_to_end(name)

    def removed(self, name: str) -> None:
        """Take note that a model's files are not there any more."""
        self._stored.pop(name, None)

    def removable(self) -> str | None:
        """Name the model whose files were loaded longest ago, of those that nobody needs now."""
        return next((name for name in self._stored if name not in self._books), None)

    # What is to be done

    def todo(self) -> list[Load | Unload]:
        """Say what is to be begun now; each is told once."""
        begun: list[Load | Unload] = []
        while self._short and (book := self._next_short()):
            begun.append(Load(book))
        while self._queue and not self._short and self._may_begin():
            begun.append(Load(self._begin(self._queue.popleft())))
        begun += [Unload(book) for book in self._leaving]
        self._leaving.clear()
        return begun

    def _next_short(self) -> Book | None:
        """Begin the first that is short of memory if room was made for it, else see to it that room is made."""
        if not self._may_begin():
            return None
        if self._room_made:
            self._room_made = False
            return self._begin(self._short.popleft())
        if self._victim is not None:
            return None
        self._victim = self._choose_victim()
        if self._victim is not None or self.loaded_count or self._loading:
            return None
        self._exclusive = self._begin(self._short.popleft())
        return self._exclusive

    def _may_begin(self) -> bool:
        return self._exclusive is None and len(self._loading) < self._most_loads

    def _begin(self, book: Book) -> Book:
        for other in self._loading:
            other.alone = False
        book.alone = not self._loading and self.loaded_count == 0
        book.state = State.LOADING
        self._loading.add(book)
        return book

    def _end_loading(self, book: Book) -> None:
        self._loading.discard(book)
        if self._exclusive is book:
            self._exclusive = None

    def _choose_victim(self) -> Book | None:
        """Let the model go that was used longest ago, an idle one if there is any."""
        if (idle := next(self._idle(), None)) is not None:
            self._begin_unloading(idle)
            return idle
        used = next((book for book in self._books.values() if book.state is State.LOADED), None)
        if used is not None:
            used.state = State.DRAINING
        return used

    def _idle(self) -> Iterator[Book]:
        """Give the models that are loaded and not used now, the one that was used longest ago first."""
        return (book for book in self._books.values() if book.state is State.LOADED and not book.users)

    def _begin_unloading(self, book: Book) -> None:
        book.state = State.UNLOADING
        self._leaving.append(book)

    def _leave_memory(self, book: Book) -> None:
        self.loaded_count -= 1
        if self._victim is book:
            self._victim = None
            self._room_made = bool(self._short)
        if book.waiting:
            book.state = State.QUEUED
            self._queue.append(book)
        else:
            del self._books[book.name]
