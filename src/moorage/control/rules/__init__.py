"""What no model states: rules over several members of one request. Pure.

A rule is a function of the request's members that gives the text of its violation, or None. ``check`` applies a list
of them in order; the first violation is the answer (control-plane.md section 2.1). Last in each list stand the
refusals of what Moorage does not do yet: a member is implemented or refused by name, never silently dropped.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moorage.aws.errors import validation_exception

Members = Mapping[str, Any]
Rule = Callable[[Members], str | None]


def check(rules: Iterable[Rule], request: Members) -> None:
    """Apply rules in order; raises ValidationException with the first violation."""
    for rule in rules:
        if (violation := rule(request)) is not None:
            raise validation_exception(violation)
