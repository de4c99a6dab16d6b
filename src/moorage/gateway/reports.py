"""What a gateway tells the control plane of its invocations: once a second, each thing exactly once.

A message has what has happened in the last second at each variant, by the minute in which it happened:

    {"op": "metrics", "gateway": "6f0c...", "name": "4711", "number": 7, "seconds": 1.0,
     "periods": [[1767225600, [[account, region, endpoint, variant, delta], ...]], ...],
     "in_flight": [[account, region, endpoint, variant, now, peak], ...], "values": {name: number}}

``number`` counts the messages that have periods; it is 0 in others. The control plane answers when its disk has them:

    {"op": "metrics_stored", "number": 7}

What is not answered is said again when the link has been made anew, and whoever hears a number twice passes over
it. Without a link, or when nothing is answered, what happens is added up by the minute: that takes as much memory for a
day as for an hour.
"""

from collections import deque
from collections.abc import Iterator

from moorage.base.link import Message
from moorage.telemetry.delta import Delta, Key
from moorage.telemetry.meters import Meters

PERIOD_SECONDS = 60

MOST_UNANSWERED = 30
"""Messages that wait for the disk of the control plane; it writes every ten seconds."""

AT_A_TIME = 50
"""Variants that are looked at in one go: half a millisecond, for which invocations wait."""

MOST_PERIODS = 60
"""Minutes that are kept apart; older ones are added up."""


class Reports:
    """The messages of one gateway."""

    def __init__(self, meters: Meters, *, gateway: str, name: str) -> None:
        """Begin. ``gateway`` is an id that no other gateway has ever had, ``name`` is for people."""
        self._meters = meters
        self._gateway = gateway
        self._name = name
        self._number = 0
        self._seconds = 0.0
        self._periods: dict[int, dict[Key, Delta]] = {}
        self._unanswered: deque[Message] = deque()

    def __repr__(self) -> str:
        return f"<Reports: {len(self._periods)} periods to tell, {len(self._unanswered)} messages unanswered>"

    def collect(self, now: float, seconds: float) -> Iterator[None]:
        """Take what has happened in the last ``seconds``; ``now`` is the wall clock's.

        Gives None again and again, so that the caller can do something else in between.
        """
        self._seconds += seconds
        start = int(now) // PERIOD_SECONDS * PERIOD_SECONDS
        for taken, (key, delta) in enumerate(self._meters.take(), 1):
            _add(self._periods.setdefault(start, {}), key, delta)
            if taken % AT_A_TIME == 0:
                yield
        if len(self._periods) > MOST_PERIODS:
            oldest, next_oldest = sorted(self._periods)[:2]
            for key, delta in self._periods.pop(oldest).items():
                _add(self._periods[next_oldest], key, delta)

    def next_message(self) -> Iterator[Message | None]:
        """Make the message that is due, the last thing that is given; to be called when it will be sent to its end.

        Before that gives None again and again, so that the caller can do something else in between.
        """
        periods: list[tuple[int, list[list[object]]]] = []
        if self._periods and len(self._unanswered) < MOST_UNANSWERED:
            told, self._periods = self._periods, {}
            seconds, self._seconds = self._seconds, 0.0
            for start in sorted(told):
                entries: list[list[object]] = []
                periods.append((start, entries))
                for key, delta in told[start].items():
                    entries.append([*key, delta.to_message()])
                    if len(entries) % AT_A_TIME == 0:
                        yield None
            self._number += 1
        else:
            seconds = self._seconds
            if not self._periods:
                self._seconds = 0.0
        message: Message = {
            "op": "metrics",
            "gateway": self._gateway,
            "name": self._name,
            "number": self._number if periods else 0,
            "seconds": seconds,
            "periods": periods,
            "in_flight": [[*key, now, peak] for key, now, peak in self._meters.look()],
            "values": self._meters.values(),
        }
        if periods:
            self._unanswered.append(message)
        yield message

    def again(self) -> Iterator[Message]:
        """Give what has not been answered, for a link that was made anew; it says nothing of the present."""
        for message in self._unanswered:
            yield {**message, "seconds": 0.0, "in_flight": [], "values": {}}

    def stored(self, number: int) -> None:
        """Forget what is on the control plane's disk."""
        while self._unanswered and self._unanswered[0]["number"] <= number:
            self._unanswered.popleft()


def _add(deltas: dict[Key, Delta], key: Key, delta: Delta) -> None:
    before = deltas.get(key)
    deltas[key] = delta if before is None else before.merge(delta)
