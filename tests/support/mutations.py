"""Requests spoiled at random: as values before they become JSON, and as bytes after it."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

Change = Callable[[Random, Any], Any]


class Text(str):
    """JSON text that is written as it stands, right or wrong."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may come twice."""


_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, "", "a", "*", " ", [], {}, [None], [[]], {"a": None}, {"": ""}),
    *(Text("NaN"), Text("Infinity"), Text("-Infinity"), Text("1e400"), Text("-1e400"), Text("1e-400"), Text("-0")),
    *(Text("1E308"), Text("0.1e1"), Text("01"), Text("+1"), Text(".5"), Text("1."), Text("0x10"), Text("undefined")),
    *(2**31, 2**31 - 1, -(2**31) - 1, 2**53, 2**63, 2**64, 10**39, Text("1" + "0" * 60), Text("9" * 5000)),
    *(Text(r'"\ud800"'), Text(r'"\udfff\ud800"'), Text(r'"\u0000"'), Text(r'"\x"'), Text('"\t"'), Text("'a'")),
    *("\x00", "\x7f", "\u0085", "\u2028", "\ufeff", "\uffff", "é", "e\u0301", "😀", "\u202e", "a" * 64, "-" * 64),
    *("ml.m5.large", "InService", "arn:aws:sagemaker:us-east-1:000000000000:model/m", "s3://b/k", "$features"),
    *("a-" * 5000, "A" * 1025, "{" * 50, "%s%n", "../../etc/passwd", "'; DROP TABLE endpoints; --", "${jndi:x}"),
)
_LARGE: tuple[Callable[[], Any], ...] = (
    lambda: [None] * 100_000,
    lambda: ["a"] * 100_000,
    lambda: [{"Key": "a", "Value": ""}] * 20_000,
    lambda: {f"k{number}": "v" for number in range(50_000)},
    lambda: "a" * 500_000,
    lambda: "-a" * 250_000,
    lambda: Text("[" * 100_000 + "]" * 100_000),
    lambda: Text('{"a":' * 50_000 + "1" + "}" * 50_000),
    lambda: Text("[" * 90 + "]" * 90),
    lambda: Text('{"a":' * 101 + "1" + "}" * 101),
    lambda: Text("1" * 400_000),
    lambda: Text("1e" + "9" * 100_000),
)


def write(value: Any) -> str:
    """Write JSON, keeping what is wrong with it."""
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{write(inner)}" for key, inner in value) + "}"
    if isinstance(value, dict):
        return write(Pairs(value.items()))
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def mutate(random: Random, members: dict[str, Any]) -> bytes:
    """Spoil a request in one to three places."""
    value: Any = members
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _change_somewhere(random, value, random.choice(_CHANGES))
    if random.random() < 0.01:  # rarely, and last: each of them takes milliseconds
        value = _change_somewhere(random, value, _replace_by_something_large)
    body = write(value).encode("utf-8", "surrogatepass")
    return _spoil_bytes(random, body) if random.random() < 0.1 else body


def _change_somewhere(random: Random, value: Any, change: Change) -> Any:
    """Walk down at random, and change what is there."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        return {**value, name: _change_somewhere(random, value[name], change)}
    if isinstance(value, list) and not isinstance(value, Pairs) and value and random.random() < 0.9:
        position = random.randrange(len(value))
        return [*value[:position], _change_somewhere(random, value[position], change), *value[position + 1 :]]
    return change(random, value)


def _replace(random: Random, _: Any) -> Any:
    return random.choice(_ODD)


def _replace_by_the_same_kind(random: Random, value: Any) -> Any:
    return random.choice([odd for odd in _ODD if type(odd) is type(value)] or _ODD)


def _replace_by_something_large(random: Random, _: Any) -> Any:
    return random.choice(_LARGE)()


def _wrap(random: Random, value: Any) -> Any:
    return random.choice(([value], {"a": value}, [[value]], [value, value], {"Value": value, "Key": value}))


def _take_away(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value:
        gone = random.choice(list(value))
        return {name: inner for name, inner in value.items() if name != gone}
    return value[1:] if isinstance(value, list | str) and not isinstance(value, Pairs | Text) else None


def _add(random: Random, value: Any) -> Any:
    if isinstance(value, dict):
        return {
            **value,
            random.choice(("Unknown", "", "__proto__", "Tags", "NextToken", "\u0000")): _replace(random, 0),
        }
    if isinstance(value, list) and not isinstance(value, Pairs):
        return value * random.choice((2, 3, 11, 51))
    return [value]


def _double_a_key(random: Random, value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return _replace(random, value)
    name = random.choice(list(value))
    return Pairs([*value.items(), (name, random.choice((value[name], _replace(random, 0))))])


def _rename(random: Random, value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return _replace(random, value)
    name = random.choice(list(value))
    other = random.choice((name.lower(), name[:1].lower() + name[1:], name + " ", name * 2, ""))
    return {other if key == name else key: inner for key, inner in value.items()}


_CHANGES: tuple[Change, ...] = (
    *([_replace_by_the_same_kind] * 6),
    *([_take_away, _add, _rename] * 2),
    _replace,
    _wrap,
    _double_a_key,
)


def _spoil_bytes(random: Random, body: bytes) -> bytes:
    at, to = sorted((random.randrange(len(body) + 1), random.randrange(len(body) + 1)))
    spoiled = (
        body[:at],
        body[at:],
        body[:at] + body[to:],
        body[:to] + body[at:],
        body[:at] + bytes([random.randrange(256)]) + body[at:],
        body[:at] + bytes([random.randrange(256)]) + body[at + 1 :],
        body + b"{}",
        b"\xef\xbb\xbf" + body,
        body.decode("utf-8", "replace").encode("utf-16"),
        body.replace(b":", b"="),
        b"[" + body + b"]",
        b" " * 1000 + body + b"\n" * 1000,
        b"",
        b"null",
        b"\x00",
    )
    return random.choice(spoiled)
