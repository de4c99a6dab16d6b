"""Refusals of what Moorage does not do yet, by the name of the member."""

from collections.abc import Iterator, Mapping
from typing import Any

Built = Mapping[str, Any]
"""Members that there is code for: a mapping for a structure or the elements of a list, ``...`` for whatever it holds,
and any other value for a member that may be given only with that value, which is what happens without it."""


def refusal(members: Mapping[str, Any], built: Built) -> str | None:
    """Name the first member of a request that asks for something that is not built."""
    path = next(_not_built(members, built, ""), None)
    return None if path is None else f"{path} is not supported by Moorage yet."


def _not_built(members: Mapping[str, Any], built: Built, prefix: str) -> Iterator[str]:
    for name, value in members.items():
        path = prefix + name
        if value == []:
            continue  # an empty list asks for nothing
        if name not in built:
            yield path
            continue
        allowed = built[name]
        if allowed is ...:
            continue
        if isinstance(allowed, Mapping):
            yield from _not_built_within(value, allowed, path)
        elif value != allowed:
            yield f"{path} {value!r}" if isinstance(value, str) else path


def _not_built_within(value: Any, allowed: Built, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for position, element in enumerate(value, 1):
            yield from _not_built(element, allowed, f"{path}.{position}.")
    else:
        yield from _not_built(value, allowed, f"{path}.")
