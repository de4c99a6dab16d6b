"""Conditions of policy statements: ``{"StringLike": {"aws:RequestTag/team": ["a*", "b"]}}``.

Operators and their meaning are those of AWS's IAM user guide (policy elements, condition operators):

* several values of one key: one of them must match; an operator with ``Not``: none of them may;
* several keys and operators: all must hold;
* a key that the request does not have: no, for an operator with ``Not`` yes, with ``...IfExists`` yes;
* ``ForAllValues:`` each value of the request must hold (none at all do), ``ForAnyValue:`` one must.

What cannot be understood is refused when the policy is made: a condition is never passed over.
"""

import ipaddress
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from moorage.iam.patterns import Context, UnusablePattern, read_pattern

Test = Callable[[str, Context], bool]
"""Says whether a value of the request is one of those that the policy names."""


class Maker(Protocol):
    """Makes the test of an operator of the values that a policy gives it."""

    def __call__(self, texts: Sequence[str], *, variables: bool) -> Test:
        """Raise ValueError for a value that the operator cannot have."""


class Quantifier(StrEnum):
    """How many of the values of a request must hold."""

    ALL = "ForAllValues"
    ANY = "ForAnyValue"


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of one operator."""

    key: str
    """In lower case."""
    test: Test
    negated: bool = False
    if_exists: bool = False
    quantifier: Quantifier | None = None
    wants_absent: bool | None = None
    """Of the operator Null: whether the key must be absent. Nothing else counts then."""

    def holds(self, context: Context) -> bool:
        """Say whether a request meets it."""
        values = context.get(self.key, ())
        if self.wants_absent is not None:
            return self.wants_absent is (not values)
        if not values:
            return self._without_value()
        if self.quantifier is None:
            return any(self.test(value, context) for value in values) is not self.negated
        some = all if self.quantifier is Quantifier.ALL else any
        return some(self.test(value, context) is not self.negated for value in values)

    def _without_value(self) -> bool:
        if self.if_exists or self.quantifier is Quantifier.ALL:
            return True
        return self.negated and self.quantifier is None


class UnusableCondition(ValueError):
    """A condition that cannot be read; the text says why."""


def read_condition(name: str, key: str, values: Any, *, variables: bool) -> Condition:
    """Read one key of one operator; raises UnusableCondition. ``variables``: whether the policy's version has them."""
    quantifier, base, if_exists = _take_apart(name)
    texts = [_text(name, value) for value in (values if isinstance(values, list) else [values])]
    if not texts:
        raise UnusableCondition(f"The condition {name} of {key} has no value.")
    if base == "Null":
        return Condition(key.lower(), _never, wants_absent=_same_boolean(name, texts))
    make, negated = _OPERATORS[base]
    try:
        test = make(texts, variables=variables)
    except (ValueError, OverflowError) as fault:
        raise UnusableCondition(f"The condition {name} of {key} has a value that it cannot have: {fault}.") from fault
    return Condition(key.lower(), test, negated, if_exists, quantifier)


def _take_apart(name: str) -> tuple[Quantifier | None, str, bool]:
    quantifier, colon, base = name.partition(":")
    if not colon:
        quantifier, base = "", name
    elif quantifier not in set(Quantifier):
        raise UnusableCondition(f"Invalid Condition type : {name}.")
    stem = base.removesuffix("IfExists")
    known = base == "Null" or stem in _OPERATORS
    if not known or (base == "Null" and quantifier):
        raise UnusableCondition(f"Invalid Condition type : {name}.")
    return (Quantifier(quantifier) if quantifier else None), stem, stem != base


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return repr(value)
    raise UnusableCondition(f"A value of the condition {name} must be a text, a number or a boolean.")


def _same_boolean(name: str, texts: Sequence[str]) -> bool:
    wanted = {text.lower() for text in texts}
    if wanted not in ({"true"}, {"false"}):
        raise UnusableCondition(f"The condition {name} must be true or false.")
    return wanted == {"true"}


def _never(_value: str, _context: Context) -> bool:
    return False


# Texts


def _equals(texts: Sequence[str], *, variables: bool) -> Test:
    return _patterns(texts, wildcards=False, variables=variables, ignore_case=False)


def _equals_ignoring_case(texts: Sequence[str], *, variables: bool) -> Test:
    return _patterns(texts, wildcards=False, variables=variables, ignore_case=True)


def _like(texts: Sequence[str], *, variables: bool) -> Test:
    return _patterns(texts, wildcards=True, variables=variables, ignore_case=False)


def _patterns(texts: Sequence[str], *, wildcards: bool, variables: bool, ignore_case: bool) -> Test:
    patterns = [read_pattern(text, wildcards=wildcards, variables=variables, ignore_case=ignore_case) for text in texts]
    return lambda value, context: any(pattern.matches(value, context) for pattern in patterns)


def _arn_like(texts: Sequence[str], *, variables: bool) -> Test:
    """Match ARNs part by part, so that a star does not reach from one part into the next."""
    patterns = []
    for text in texts:
        parts = _arn_parts(text)
        if len(parts) != 6 or parts[0] not in {"arn", "*"}:
            raise UnusablePattern(f"{text!a} is no ARN")
        patterns.append([read_pattern(part, variables=variables) for part in parts])

    def test(value: str, context: Context) -> bool:
        parts = value.split(":", 5)
        return len(parts) == 6 and any(
            all(pattern.matches(part, context) for pattern, part in zip(arn, parts, strict=True)) for arn in patterns
        )

    return test


def _arn_parts(text: str) -> list[str]:
    """Split at the colons that are not within ``${...}``."""
    if text == "*":
        return ["*"] * 6
    parts, depth = [""], 0
    for place, letter in enumerate(text):
        depth += text.startswith("${", place) - (letter == "}" and depth > 0)
        if letter == ":" and depth == 0 and len(parts) < 6:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


# Other values: a value of the request that cannot be read is none of those that the policy names.


def _compared(read: Callable[[str], float], compare: Callable[[float, float], bool]) -> Maker:
    def make(texts: Sequence[str], *, variables: bool) -> Test:  # noqa: ARG001 - only texts can have them
        wanted = [read(text) for text in texts]

        def test(value: str, _context: Context) -> bool:
            try:
                given = read(value)
            except (ValueError, OverflowError):
                return False
            return any(compare(given, one) for one in wanted)

        return test

    return make


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!a} is no number")
    return value


def _moment(text: str) -> float:
    """Read a date (ISO 8601, UTC unless it says otherwise) or seconds since the epoch."""
    try:
        return _number(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _boolean(text: str) -> float:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"{text!a} is neither true nor false")
    return float(text.lower() == "true")


def _in_network(texts: Sequence[str], *, variables: bool) -> Test:  # noqa: ARG001 - only texts can have them
    networks = [ipaddress.ip_network(text, strict=False) for text in texts]

    def test(value: str, _context: Context) -> bool:
        try:
            address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(value.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in networks)

    return test


_COMPARISONS: tuple[tuple[str, Callable[[float, float], bool], bool], ...] = (
    ("Equals", operator.eq, False),
    ("NotEquals", operator.eq, True),
    ("LessThan", operator.lt, False),
    ("LessThanEquals", operator.le, False),
    ("GreaterThan", operator.gt, False),
    ("GreaterThanEquals", operator.ge, False),
)

_OPERATORS: dict[str, tuple[Maker, bool]] = {
    "StringEquals": (_equals, False),
    "StringNotEquals": (_equals, True),
    "StringEqualsIgnoreCase": (_equals_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equals_ignoring_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "Bool": (_compared(_boolean, operator.eq), False),
    "IpAddress": (_in_network, False),
    "NotIpAddress": (_in_network, True),
    **{"Numeric" + name: (_compared(_number, compare), negated) for name, compare, negated in _COMPARISONS},
    **{"Date" + name: (_compared(_moment, compare), negated) for name, compare, negated in _COMPARISONS},
}
"""By name: what makes the test, and whether it is negated."""
