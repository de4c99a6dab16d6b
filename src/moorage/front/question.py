"""What a call and a container have between them: the question, who hears the answer, and what can go wrong.

This is the seam of the front. ``call`` asks the containers in order and knows nothing of how each is talked to;
a container is whatever has ``ask`` (``station`` is the plain one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moorage.gateway.exchange import AnswerHead
from moorage.gateway.fronts import Fault


@dataclass(frozen=True, slots=True)
class Question:
    """What one container is asked."""

    lines: bytes
    """The lines of its headers, without Content-Length."""
    chunks: Sequence[bytes]
    """The body, in the pieces in which it came; nobody changes it."""
    size: int
    target_model: str | None = None
    """For a container of many models."""


class Hearer(Protocol):
    """Who is told the answer; nothing is told before ``ask`` has returned, and nothing after the end or a failure."""

    def answer_begun(self, head: AnswerHead) -> None:
        """Take the head of the answer, whatever its status is."""

    def answer_piece(self, data: bytes) -> None:
        """Take a piece of the body."""

    def answer_ended(self) -> None:
        """Note that the answer is complete."""

    def asking_failed(self, fault: Fault) -> None:
        """There is no answer, or no more of it."""

    def asked_now(self) -> None:
        """Take note that the container is asked only now: what was waited for before is not its time."""

    def note(self, measure: str, value: int) -> None:
        """Tell the gateway something that was measured (``gateway.fronts.MEASURES``), before the answer begins."""


class Asking(Protocol):
    """A question that is being answered."""

    def cancel(self) -> None:
        """Stop the container's work: nobody wants the answer."""

    def give_up(self) -> Fault:
        """Stop it because the time is up; gives what the caller is to be told."""

    def pause(self) -> None:
        """Leave what comes of the answer in the socket for now."""

    def resume(self) -> None:
        """Read on."""


class Askable(Protocol):
    """A container."""

    @property
    def name(self) -> str:
        """Its hostname, or ``container-N``."""

    def ask(self, question: Question, hearer: Hearer) -> Asking:
        """Ask it something."""

    async def look(self, seconds: float) -> str:
        """Ask it whether it is well; gives what is wrong, or nothing."""

    def sweep(self, now: float) -> None:
        """Do what is due from time to time: ``now`` is ``clock.monotonic()``."""
