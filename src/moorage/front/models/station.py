"""A multi-model container: each question is for one model, which is loaded when it has to be.

    ========  ====================================  ===========================================================
    state     event                                 effect
    ========  ====================================  ===========================================================
    waiting   the model is loaded                   it is asked, by ``POST /models/NAME/invoke``
    waiting   the model cannot be had               the fault is told
    waiting   the time is up                        NotReady; the load goes on
    asked     404, and the container has it not     it is loaded and asked once more: it was lost, with its process
    asked     507, and another model is idle        that is unloaded, and the model asked again
    asked     any other answer                      is the answer
    ========  ====================================  ===========================================================

A built-in container has a process for each model and hands a connection over to it: there every model has connections
of its own, so that this is done once for each and not for each invocation.
"""

import asyncio
from collections import OrderedDict

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.front.models.contract import NoReply
from moorage.front.models.keeper import HIT, WAIT, Keeper
from moorage.front.models.names import join, opaque_name
from moorage.front.models.shelf import Book, State
from moorage.front.question import Asking, Hearer, Question
from moorage.front.station import Station
from moorage.gateway.exchange import AnswerHead
from moorage.gateway.fronts import Fault, FaultKind
from moorage.gateway.upstream import KEPT_SECONDS

TARGET_MODEL = b"X-Amzn-SageMaker-Target-Model: %b\r\n"

_NOT_THERE = 404
_NO_MEMORY = 507
_MICROSECONDS = 1_000_000
_MOST_NAMES = 16_384


class Channels:
    """The connections to a container: its own for each model, or the same ones for all."""

    def __init__(self, station: Station, clock: Clock, *, one_each: bool) -> None:
        self._station = station
        self._clock = clock
        self._one_each = one_each
        self._of_models: OrderedDict[str, tuple[Station, float]] = OrderedDict()
        """With the time of the last use, the one that was used longest ago first."""

    def of(self, name: str) -> Station:
        """Give what a model is asked through."""
        if not self._one_each:
            return self._station
        known = self._of_models.get(name)
        own = self._station.like_this() if known is None else known[0]
        self._of_models[name] = (own, self._clock.monotonic())
        self._of_models.move_to_end(name)
        return own

    def sweep(self, now: float) -> None:
        """Close connections that were kept for too long."""
        self._station.sweep(now)
        for name, (own, used) in list(self._of_models.items()):
            if used + KEPT_SECONDS >= now:
                break
            own.sweep(now)
            if own.is_idle:
                del self._of_models[name]

    def now(self) -> float:
        """Give the time, in monotonic seconds."""
        return self._clock.monotonic()


class ModelStation:
    """One multi-model container."""

    def __init__(self, station: Station, keeper: Keeper, channels: Channels, prefix: str, tasks: Tasks) -> None:
        self.name = station.name
        self.tasks = tasks
        self.keeper = keeper
        self.channels = channels
        self._station = station
        self._prefix = prefix
        self._begun = False
        self._beginning = asyncio.Lock()
        self._names: dict[str, tuple[str, str]] = {}

    def __repr__(self) -> str:
        return f"<ModelStation {self.name}: {self.keeper!r}>"

    def ask(self, question: Question, hearer: Hearer) -> Asking:
        """Ask a model for an inference."""
        asking = ModelAsking(self, question, hearer)
        asking.begin()
        return asking

    def name_of(self, target: str) -> tuple[str, str]:
        """Give a model's name for the container, and its URI."""
        known = self._names.get(target)
        if known is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            uri = join(self._prefix, target)
            known = self._names[target] = (opaque_name(uri), uri)
        return known

    async def look(self, seconds: float) -> str:
        """Ask the container whether it is well; it must also tell its models (data-plane.md section 7.4)."""
        wrong = await self._station.look(seconds)
        if wrong or self._begun:
            return wrong
        try:
            async with asyncio.timeout(seconds), self._beginning:
                if not self._begun:
                    await self.keeper.begin()
        except TimeoutError:
            return f"{self.name}: GET /models gave no answer within {seconds:g} s"
        except NoReply as fault:
            return f"{self.name}: {fault}"
        self._begun = True
        return ""

    def sweep(self, now: float) -> None:
        """Do what is due from time to time."""
        self.channels.sweep(now)
        self.keeper.sweep(now)


class ModelAsking:
    """One question to one model."""

    __slots__ = (
        "_again",
        "_book",
        "_ended",
        "_head",
        "_hearer",
        "_inner",
        "_pieces",
        "_question",
        "_since",
        "_station",
        "_uses",
    )

    def __init__(self, station: ModelStation, question: Question, hearer: Hearer) -> None:
        self._station = station
        self._question = question
        self._hearer = hearer
        self._book: Book | None = None
        self._uses = False
        """It uses the model, and does not wait for it."""
        self._since = 0.0
        self._inner: Asking | None = None
        self._again = False
        """The model was lost once already."""
        self._head: AnswerHead | None = None
        """Of an answer that is looked into before it is told."""
        self._pieces: list[bytes] = []
        self._ended = False

    def begin(self) -> None:
        """Use the model, or wait for it."""
        self._enter()
        self._hearer.note(HIT, int(self._uses))

    def _enter(self) -> None:
        station = self._station
        self._since = station.channels.now()
        name, uri = station.name_of(self._question.target_model or "")
        self._book = book = station.keeper.use(name, uri, self)
        self._uses = book.state is State.LOADED
        if self._uses:
            self._post(book)

    def _post(self, book: Book) -> None:
        question = self._question
        target = (question.target_model or "").encode("latin-1", "replace")
        lines = question.lines + TARGET_MODEL % target
        asked = Question(lines, question.chunks, question.size)
        path = b"/models/%b/invoke" % book.name.encode()
        self._inner = self._station.channels.of(book.name).post(path, asked, self)

    # Waiter

    def model_loaded(self) -> None:
        """Ask it."""
        self._uses = True
        self._hearer.note(WAIT, int((self._station.channels.now() - self._since) * _MICROSECONDS))
        self._hearer.asked_now()
        if self._book is not None:
            self._post(self._book)

    def model_refused(self, fault: Fault) -> None:
        """Tell that it cannot be had."""
        self._ended = True
        self._book = None
        self._hearer.asked_now()  # it never was: the container has taken no time
        self._tell_measures()
        self._hearer.asking_failed(fault)

    # Asking

    def cancel(self) -> None:
        """Stop: nobody wants the answer. A load goes on."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.cancel()
        self._leave()

    def give_up(self) -> Fault:
        """Stop because the time is up."""
        kind = FaultKind.TIMED_OUT if self._uses else FaultKind.NOT_READY
        if not self._uses:
            self._hearer.asked_now()
        self.cancel()
        self._tell_measures()
        return Fault(kind)

    def pause(self) -> None:
        """Read no more for now."""
        if self._inner is not None:
            self._inner.pause()

    def resume(self) -> None:
        """Read on."""
        if self._inner is not None:
            self._inner.resume()

    # Hearer

    def answer_begun(self, head: AnswerHead) -> None:
        """Pass it on, unless it may say that the model is not there or lacks memory."""
        if head.status == _NO_MEMORY or (head.status == _NOT_THERE and not self._again):
            self._head = head
        else:
            self._tell_measures()
            self._hearer.answer_begun(head)

    def answer_piece(self, data: bytes) -> None:
        """Pass it on."""
        if self._head is None:
            self._hearer.answer_piece(data)
        else:
            self._pieces.append(data)

    def answer_ended(self) -> None:
        """Pass it on, or look what has become of the model."""
        self._inner = None
        if self._head is None:
            self._leave()
            self._hearer.answer_ended()
        else:
            work = self._look_for_model if self._head.status == _NOT_THERE else self._get_memory
            self._station.tasks.start("look at a model", work(self._head))

    def asking_failed(self, fault: Fault) -> None:
        """Pass it on; the model may have gone with its process."""
        self._inner = None
        book = self._book
        self._leave()
        if book is not None:
            self._station.keeper.doubt(book)
        self._tell_measures()
        self._hearer.asking_failed(fault)

    def asked_now(self) -> None:
        """Nobody waits behind the container itself."""

    def note(self, measure: str, value: int) -> None:
        """Pass it on."""
        self._hearer.note(measure, value)

    # What may be mended

    async def _look_for_model(self, head: AnswerHead) -> None:
        """Have a model loaded again that the container has lost; what it has not lost has answered itself."""
        book, keeper = self._book, self._station.keeper
        if book is None or (await keeper.has(book) and keeper.is_present(book)):
            self._tell(head)
            return
        keeper.lost(book)
        if self._ended:
            return
        self._again = True
        self._forget_answer()
        keeper.done(book)
        self._uses = False
        self._enter()

    async def _get_memory(self, head: AnswerHead) -> None:
        """Have another model unloaded, and ask again."""
        book = self._book
        if book is None or not await self._station.keeper.make_room(book):
            self._tell(head)
        elif not self._ended:
            self._forget_answer()
            self._post(book)

    def _tell(self, head: AnswerHead) -> None:
        """Pass on the answer that was looked into."""
        if self._ended:
            return
        pieces = self._pieces
        self._forget_answer()
        self._leave()
        self._tell_measures()
        self._hearer.answer_begun(head)
        for piece in pieces:
            self._hearer.answer_piece(piece)
        self._hearer.answer_ended()

    def _forget_answer(self) -> None:
        self._head = None
        self._pieces = []

    # Inside

    def _leave(self) -> None:
        """Use the model no more, or wait for it no more."""
        self._ended = True
        book, self._book = self._book, None
        if book is None:
            return
        if self._uses:
            self._station.keeper.done(book)
        else:
            self._station.keeper.stop_waiting(book, self)

    def _tell_measures(self) -> None:
        for measure, value in self._station.keeper.take_measures():
            self._hearer.note(measure, value)
