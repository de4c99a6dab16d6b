"""Refusals of what no engine of this machine keeps, by the member of the API that asks for it. Pure.

The node agent says what that is and why (``engine.contract``). A member that it does not name is kept by some engine.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from moorage.control.rules import Members, Rule
from moorage.control.rules.models import containers_of

_LISTS = ("ProductionVariants", "ShadowProductionVariants")


def rules_for(refuses: Mapping[str, str], models: Mapping[str, Members]) -> tuple[Rule, ...]:
    """Give the rule of an endpoint configuration and the models that it refers to, by name."""
    return (partial(all_can_be_kept, refuses, models),)


def all_can_be_kept(refuses: Mapping[str, str], models: Mapping[str, Members], request: Members) -> str | None:
    """Refuse the first member that asks for what cannot be kept here."""
    for path, members in (*_of_request(request), *_of_models(models)):
        for member, reason in refuses.items():
            if _asks_for(members, member.split(".")):
                return f"{path}{member} cannot be kept on this machine: {reason}"
    return None


def _of_request(request: Members) -> Iterator[tuple[str, Members]]:
    yield "", request
    for kind in _LISTS:
        for number, variant in enumerate(request.get(kind, ()), 1):
            yield f"{kind}.{number}.", variant


def _of_models(models: Mapping[str, Members]) -> Iterator[tuple[str, Members]]:
    for name, model in models.items():
        for members in (model, *containers_of(model)):
            yield f"model {name}: ", members


def _asks_for(members: Members, path: list[str]) -> bool:
    """Say whether a member is given and asks for something: False and an empty value do not."""
    value: Any = members
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return bool(value)
