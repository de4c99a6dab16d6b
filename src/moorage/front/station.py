"""A plain container: each question is a ``POST /invocations`` on a kept connection of its own."""

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.engine.ping import NoAnswer, ping
from moorage.front.question import Asking, Hearer, Question
from moorage.gateway.exchange import AnswerHead, Break
from moorage.gateway.fronts import Fault, FaultKind
from moorage.gateway.upstream import Pool, UpstreamConnection

DIAL_SECONDS = 2.0
"""As a gateway gives an instance."""

JOINED_BYTES = 16_384
"""Up to this size head and body go out as one piece: copying is cheaper than a list of pieces."""

INVOCATIONS = b"/invocations"

_OK = 200

_FAULTS = {
    Break.NO_ANSWER: FaultKind.NO_ANSWER,
    Break.IN_HEAD: FaultKind.NO_ANSWER,
    Break.MALFORMED: FaultKind.NO_ANSWER,
    Break.IN_BODY: FaultKind.CUT,
}


class Station:
    """One container."""

    def __init__(self, name: str, address: str, tasks: Tasks, clock: Clock) -> None:
        self.name = name
        self.address = address
        self._tasks = tasks
        self._clock = clock
        self._pool = Pool(address, tasks, clock, dial_seconds=DIAL_SECONDS, dial_again=(BlockingIOError,))
        self._host = b"localhost" if address.startswith(("unix:", "dial:")) else address.encode()

    def __repr__(self) -> str:
        return f"<Station {self.name}: {self._pool!r}>"

    def ask(self, question: Question, hearer: Hearer) -> Asking:
        """Ask for an inference."""
        return self.post(INVOCATIONS, question, hearer)

    def post(self, path: bytes, question: Question, hearer: Hearer) -> Asking:
        """Send a question to a path."""
        return self.request(b"POST", path, question, hearer)

    def request(self, method: bytes, path: bytes, question: Question, hearer: Hearer) -> Asking:
        """Send a question with another method."""
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (
            method,
            path,
            self._host,
            question.lines,
            question.size,
        )
        return self.send(head, question, hearer)

    def send(self, head: bytes, question: Question, hearer: Hearer) -> Asking:
        """Send a head that is complete, and a question's body."""
        asked = _Asked(head, question, hearer)
        self._pool.borrow(asked)
        return asked

    async def look(self, seconds: float) -> str:
        """Ask it whether it is well; gives what is wrong, or nothing."""
        try:
            status = await ping(self.address, seconds)
        except NoAnswer as fault:
            return f"{self.name}: {fault}"
        return "" if status == _OK else f"{self.name}: /ping answered {status}"

    def like_this(self) -> "Station":
        """Give another to the same container, with connections of its own."""
        return Station(self.name, self.address, self._tasks, self._clock)

    @property
    def is_idle(self) -> bool:
        """Whether there is no connection."""
        return self._pool.is_empty

    def sweep(self, now: float) -> None:
        """Close connections that have been kept for too long."""
        self._pool.sweep(now)


class _Asked:
    """One question on its way: borrows a connection, sends, tells what comes, gives it back."""

    __slots__ = ("_connection", "_head", "_hearer", "_question")

    def __init__(self, head: bytes, question: Question, hearer: Hearer) -> None:
        self._head = head
        self._question = question
        self._hearer: Hearer | None = hearer
        """None: it has ended."""
        self._connection: UpstreamConnection | None = None

    # Asking

    def cancel(self) -> None:
        """Close the connection, which stops the container's work."""
        self._hearer = None
        self._let_go()

    def give_up(self) -> Fault:
        """Close the connection: the container has not answered in time."""
        self.cancel()
        return Fault(FaultKind.TIMED_OUT)

    def pause(self) -> None:
        """Read no more for now."""
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume_reading()

    # Borrower

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """Send the question."""
        if self._hearer is None:
            connection.give_back()
            return
        self._connection = connection
        connection.exchange.begin(self)
        question = self._question
        if question.size <= JOINED_BYTES:
            connection.send_whole(self._head + b"".join(question.chunks))
        else:
            connection.send([self._head, *question.chunks])

    def upstream_refused(self, reason: str) -> None:  # noqa: ARG002 - the text for the client is AWS's
        """Tell that there is no connection to be had, and no byte has been sent."""
        self._fail(Fault(FaultKind.REFUSED))

    def upstream_writable(self, *, writable: bool) -> None:
        """Do nothing: the body is in memory already, there is nobody to slow down."""

    # AnswerSink

    def interim_received(self, head: AnswerHead) -> None:
        """Do nothing: the real answer follows."""

    def answer_received(self, head: AnswerHead) -> None:
        """Pass it on."""
        if self._hearer is not None:
            self._hearer.answer_begun(head)

    def answer_body_received(self, data: bytes) -> None:
        """Pass it on."""
        if self._hearer is not None:
            self._hearer.answer_piece(data)

    def answer_ended(self) -> None:
        """Give the connection back, and tell it: the next question may go out on it at once."""
        hearer, self._hearer = self._hearer, None
        self._let_go()
        if hearer is not None:
            hearer.answer_ended()

    def answer_broken(self, how: Break) -> None:
        """Tell that there is no more."""
        self._fail(Fault(_FAULTS[how]))

    # Inside

    def _fail(self, fault: Fault) -> None:
        hearer, self._hearer = self._hearer, None
        self._let_go()
        if hearer is not None:
            hearer.asking_failed(fault)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.give_back()
