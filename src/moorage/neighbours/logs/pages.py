"""Pages of events: how much is one, and what the tokens say.

A token of GetLogEvents is a position in the stream, which stays good while lines come and old files go. A token of
FilterLogEvents is the last event that was looked at: its time, stream and position, the order of the whole search.
"""

import heapq
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moorage.aws.errors import ClientFault, ServiceError
from moorage.aws.paging import decode_token, encode_token
from moorage.logs.reader import Event, StreamReader
from moorage.neighbours.logs.patterns import Pattern

MOST_EVENTS = 10_000
MOST_BYTES = 2**20
"""Of one page, as CloudWatch counts: the message and 26 bytes for each event."""

MOST_SEARCHED = 100_000
"""Events that one call looks at: half a second's work. Then a page goes out with what it has, and a token."""

_OVERHEAD_BYTES = 26
_TOKEN = re.compile(r"([fb])/([0-9]{1,56})(?:/s)?", re.ASCII)


class Page:
    """Events until they are enough."""

    def __init__(self, limit: int | None) -> None:
        self._room = MOST_BYTES
        self._limit = limit or MOST_EVENTS
        self.events: list[Any] = []

    def takes(self, event: Event) -> bool:
        """Say whether an event still fits; the first always does."""
        fits = len(event.message) + _OVERHEAD_BYTES <= self._room
        return not self.events or (len(self.events) < self._limit and fits)

    def add(self, event: Event, shown: Any) -> None:
        """Take an event, as it is to be shown."""
        self._room -= len(event.message) + _OVERHEAD_BYTES
        self.events.append(shown)


# GetLogEvents


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of one stream is wanted."""

    start: int | None
    """Milliseconds since the epoch, included."""
    end: int | None
    """Not included."""
    token: str | None
    limit: int | None
    from_head: bool


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A page of one stream, oldest first."""

    events: list[Event]
    forward: str
    backward: str


def read_page(reader: StreamReader, wanted: Wanted) -> StreamPage:
    """Read a page of one stream; raises InvalidParameterException for a token that is none of it."""
    low = reader.start if wanted.start is None else reader.at_time(wanted.start)
    high = reader.end if wanted.end is None else min(reader.end, reader.at_time(wanted.end))
    forward, position = _read_token(reader, wanted.token) if wanted.token else (wanted.from_head, None)
    page = Page(wanted.limit)
    if forward:
        begin = low if position is None else max(low, position)
        end = _fill(page, reader.forward(begin, high), begin, forward=True)
        # Who has come to the end gets the token back that he brought: so AWS's clients know that it is the end.
        onward = wanted.token if wanted.token and end == begin else _token("f", end)
        return StreamPage(page.events, onward, _token("b", begin))
    end = high if position is None else min(high, position)
    begin = _fill(page, reader.backward(end, low), end, forward=False)
    onward = wanted.token if wanted.token and end == begin else _token("b", begin)
    return StreamPage(page.events[::-1], _token("f", end), onward)


def _fill(page: Page, events: Iterator[Event], position: int, *, forward: bool) -> int:
    """Take events until the page is full; gives the position that was reached. Empty lines are no events on AWS."""
    for event in events:
        if event.message:
            if not page.takes(event):
                break
            page.add(event, event)
        position = event.end if forward else event.position
    return position


def _token(direction: str, position: int) -> str:
    return f"{direction}/{position:056d}/s"


def _read_token(reader: StreamReader, token: str) -> tuple[bool, int]:
    found = _TOKEN.fullmatch(token)
    if found is None or not reader.is_boundary(int(found[2])):
        raise invalid_token()
    return found[1] == "f", int(found[2])


def invalid_token() -> ClientFault:
    """Make the error for a token that was not given out for this."""
    return ClientFault("InvalidParameterException", "The specified nextToken is invalid.")


# FilterLogEvents


@dataclass(frozen=True, slots=True)
class Search:
    """What of several streams is wanted."""

    start: int | None
    """Milliseconds since the epoch, included."""
    end: int | None
    """Included."""
    pattern: Pattern
    token: str | None
    limit: int | None
    from_head: bool
    filters: Mapping[str, Any]
    """What a token is good for."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What a call has found, in order: pairs of a stream's name and an event."""

    events: list[tuple[str, Event]]
    token: str | None
    """None: there is no more."""


@dataclass(frozen=True, slots=True)
class _Last:
    """Where a search goes on: behind this event."""

    is_forward: bool
    time: int
    stream: str
    position: int
    end: int


def search(readers: Mapping[str, StreamReader], wanted: Search) -> SearchPage:
    """Look for events in several streams at once, by time."""
    last = _read_last(wanted)
    is_forward = wanted.from_head if last is None else last.is_forward
    streams = [_rest(name, reader, wanted, last, is_forward=is_forward) for name, reader in readers.items()]
    page, more = Page(wanted.limit), False
    for looked_at, (time, name, position, event) in enumerate(heapq.merge(*streams, reverse=not is_forward)):
        matches = bool(event.message) and wanted.pattern.matches(event.message)
        if looked_at == MOST_SEARCHED or (matches and not page.takes(event)):
            more = True
            break
        if matches:
            page.add(event, (name, event))
        last = _Last(is_forward, time, name, position, event.end)
    # A page with events always has a token, as CloudWatch's have: the SageMaker SDK prints no others.
    token = _write_last(last, wanted) if last is not None and (more or page.events) else None
    return SearchPage(page.events, token)


Item = tuple[int, str, int, Event]


def _rest(name: str, reader: StreamReader, wanted: Search, last: _Last | None, *, is_forward: bool) -> Iterator[Item]:
    """Give what of one stream comes behind the last event that was looked at."""
    low = reader.start if wanted.start is None else reader.at_time(wanted.start)
    high = reader.end if wanted.end is None else min(reader.end, reader.at_time(wanted.end + 1))
    if last is not None and is_forward:
        low = max(low, last.end if name == last.stream else reader.at_time(last.time + (name < last.stream)))
    elif last is not None:
        bound = last.position if name == last.stream else reader.at_time(last.time + (name < last.stream))
        high = min(high, bound)
    events = reader.forward(low, high) if is_forward else reader.backward(high, low)
    return ((event.time, name, event.position, event) for event in events)


def _write_last(last: _Last, wanted: Search) -> str:
    direction = "f" if last.is_forward else "b"
    return encode_token((direction, last.time, last.stream, last.position, last.end), wanted.filters)


def _read_last(wanted: Search) -> _Last | None:
    if wanted.token is None:
        return None
    direction, time, stream, position, end = read_token(wanted.token, wanted.filters, (str, int, str, int, int))
    return _Last(direction == "f", time, stream, position, end)


def read_token(token: str, filters: Mapping[str, Any], kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """Read what ``encode_token`` has made; raises InvalidParameterException."""
    try:
        return decode_token(token, filters, kinds)
    except ServiceError as fault:
        raise invalid_token() from fault
