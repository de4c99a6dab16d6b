"""Patterns of policies: ``*`` for any characters, ``?`` for one, ``${aws:username}`` for what the request says.

A pattern is matched in time that grows with pattern and text together, not with their product to the number of stars:
anybody may bring a session policy, and the gateway matches it for every request. What a variable stands for is taken
literally: a user named ``*`` is no wildcard. ``${*}``, ``${?}`` and ``${$}`` are those characters themselves.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from moorage.iam.known_keys import is_missing

Context = Mapping[str, tuple[str, ...]]
"""What is known of a request: values by condition key in lower case."""

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9_./+=@:-]+(?:[ ][A-Za-z0-9_./+=@:-]+)*")
_DEFAULT = re.compile(r"([^,]+),\s*'([^']*)'\s*")


class Wild(Enum):
    """A character of a pattern that is not itself."""

    MANY = auto()
    ONE = auto()


@dataclass(frozen=True, slots=True)
class Variable:
    """A place that the request fills in."""

    name: str
    """A condition key in lower case."""
    default: str | None = None


class UnusablePattern(ValueError):
    """A pattern that cannot be read; the text says why."""


Part = str | Wild


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What stands between two stars: a text of a fixed length."""

    text: str
    length: int
    expression: re.Pattern[str] | None
    """When there is a ``?`` in it."""

    def at(self, text: str, place: int) -> bool:
        """Say whether it stands at a place."""
        if self.expression is None:
            return text.startswith(self.text, place)
        return self.expression.match(text, place) is not None

    def find(self, text: str, start: int, end: int) -> int:
        """Give its first place between two others; -1 when there is none."""
        if self.expression is None:
            return text.find(self.text, start, end)
        found = self.expression.search(text, start, end)
        return -1 if found is None else found.start()


class Glob:
    """A pattern without variables, ready to be matched."""

    __slots__ = ("_chunks", "_folds")

    def __init__(self, parts: Sequence[Part], *, ignore_case: bool = False) -> None:
        self._folds = ignore_case
        groups: list[list[Part]] = [[]]
        for part in parts:
            if part is Wild.MANY:
                groups.append([])
            else:
                groups[-1].append(part.lower() if ignore_case and isinstance(part, str) else part)
        self._chunks = tuple(_chunk(group) for group in groups)

    def matches(self, text: str) -> bool:
        """Say whether the whole text is as the pattern says."""
        if self._folds:
            text = text.lower()
        first, last = self._chunks[0], self._chunks[-1]
        if len(self._chunks) == 1:
            return len(text) == first.length and first.at(text, 0)
        place, end = first.length, len(text) - last.length
        if end < place or not first.at(text, 0) or not last.at(text, end):
            return False
        # The leftmost place is the best one: whatever fits behind a later place fits behind it too.
        for chunk in self._chunks[1:-1]:
            found = chunk.find(text, place, end)
            if found < 0:
                return False
            place = found + chunk.length
        return True


def _chunk(parts: Sequence[Part]) -> _Chunk:
    text = "".join("?" if isinstance(part, Wild) else part for part in parts)
    if Wild.ONE not in parts:
        return _Chunk(text, len(text), None)
    expression = "".join("." if isinstance(part, Wild) else re.escape(part) for part in parts)
    return _Chunk(text, len(text), re.compile(expression, re.DOTALL))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as a policy has it."""

    parts: tuple[Part | Variable, ...]
    ignore_case: bool
    ready: Glob | None
    """When it has no variables."""

    def resolve(self, context: Context) -> Glob | None:
        """Fill in the variables; None when the request does not say what one of them is."""
        if self.ready is not None:
            return self.ready
        filled: list[Part] = []
        for part in self.parts:
            if isinstance(part, Variable):
                value = value_of(part, context)
                if value is None:
                    return None
                filled.append(value)
            else:
                filled.append(part)
        return Glob(filled, ignore_case=self.ignore_case)

    def matches(self, text: str, context: Context) -> bool:
        """Say whether a text is as the pattern says, in this request."""
        glob = self.resolve(context)
        return glob is not None and glob.matches(text)


def value_of(variable: Variable, context: Context) -> str | None:
    """Give what a variable stands for: a key with several values stands for nothing."""
    values = context.get(variable.name, ())
    return values[0] if len(values) == 1 else variable.default


def read_pattern(text: str, *, wildcards: bool = True, variables: bool = True, ignore_case: bool = False) -> Pattern:
    """Read a pattern; raises UnusablePattern. ``wildcards`` off: ``*`` and ``?`` are themselves."""
    parts: list[Part | Variable] = []
    place = 0
    for found in _VARIABLE.finditer(text) if variables else ():
        parts += _plain(text[place : found.start()], wildcards=wildcards)
        parts.append(_variable(found[1]))
        place = found.end()
    rest = text[place:]
    if variables and "${" in rest:
        raise UnusablePattern(f"{text!a} has a variable that does not end")
    parts += _plain(rest, wildcards=wildcards)
    plain = [part for part in parts if not isinstance(part, Variable)]
    ready = Glob(plain, ignore_case=ignore_case) if len(plain) == len(parts) else None
    return Pattern(tuple(parts), ignore_case, ready)


def _plain(text: str, *, wildcards: bool) -> list[Part | Variable]:
    if not wildcards:
        return [text] if text else []
    pieces = re.split(r"([*?])", text)
    wild = {"*": Wild.MANY, "?": Wild.ONE}
    return [wild.get(piece, piece) for piece in pieces if piece]


def _variable(inside: str) -> str | Variable:
    if inside in {"*", "?", "$"}:
        return inside
    defaulted = _DEFAULT.fullmatch(inside)
    name, default = (defaulted[1].strip(), defaulted[2]) if defaulted else (inside.strip(), None)
    if _NAME.fullmatch(name) is None:
        raise UnusablePattern(f"${{{inside}}} is no policy variable")
    if is_missing(name):
        raise UnusablePattern(f"Moorage does not have the policy variable ${{{name}}} yet")
    return Variable(name.lower(), default)
