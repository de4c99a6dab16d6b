"""Policy documents: read from JSON, checked to the last member, ready to be evaluated.

A document that has anything that nobody would look at is refused, in AWS's words where they are known: a policy of
which a part is passed over allows more, or denies less, than its author believes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NoReturn

from moorage.iam.conditions import Condition, UnusableCondition, read_condition
from moorage.iam.known_keys import is_missing
from moorage.iam.patterns import Pattern, UnusablePattern, read_pattern

MOST_CHARACTERS = 6_144
"""Of a document, white space apart: AWS's limit of a managed policy."""

FULL_ACCESS = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
"""What a key without policies of its own may do: everything in its account."""

_VERSIONS = {"2012-10-17": True, "2008-10-17": False}
"""And whether they have variables."""

_ACTION = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_SID = re.compile(r"[A-Za-z0-9]*")
_KEY = re.compile(r"[A-Za-z0-9-]+:\S(?:.*\S)?", re.DOTALL)
_DOCUMENT = frozenset({"Version", "Id", "Statement"})
_STATEMENT = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})


class MalformedPolicy(ValueError):
    """A document that is not a policy; ``message`` is for its author."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Effect(StrEnum):
    """What a statement does with the requests it is about."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule."""

    effect: Effect
    actions: tuple[Pattern, ...]
    all_other_actions: bool
    """NotAction: it is about what the patterns do not name."""
    resources: tuple[Pattern, ...]
    all_other_resources: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A document."""

    statements: tuple[Statement, ...]
    looks_at_resource_tags: bool
    """Whether a condition or variable may ask for the tags of the resource: then somebody must look them up."""


@lru_cache(maxsize=4096)
def read_policy(text: str) -> Policy:
    """Read a document; raises MalformedPolicy. The last few thousand are kept: requests bring the same ones again."""
    if len("".join(text.split())) > MOST_CHARACTERS:
        _refuse(f"The policy is longer than {MOST_CHARACTERS} characters.")
    document = _load(text)
    _check_members("The policy", document, _DOCUMENT)
    version = document.get("Version", "2008-10-17")
    if not isinstance(version, str) or version not in _VERSIONS:
        _refuse(f"The policy must contain a valid version string: {' or '.join(_VERSIONS)}.")
    if not isinstance(document.get("Id", ""), str):
        _refuse("Id must be a text.")
    entries = document.get("Statement")
    entries = entries if isinstance(entries, list) else [entries]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        _refuse("Statement must be a statement or a list of statements.")
    _check_sids(entries)
    statements = tuple(_statement(entry, variables=_VERSIONS[version]) for entry in entries)
    return Policy(statements, "resourcetag/" in json.dumps(document).lower())


def _statement(entry: Mapping[str, Any], *, variables: bool) -> Statement:
    if "Principal" in entry or "NotPrincipal" in entry:
        _refuse("Policy document should not specify a principal.")
    _check_members("A statement", entry, _STATEMENT)
    if entry.get("Effect") not in tuple(Effect):
        _refuse("The Effect of a statement must be Allow or Deny.")
    actions, other_actions = _either(entry, "Action")
    resources, other_resources = _either(entry, "Resource")
    return Statement(
        Effect(entry["Effect"]),
        tuple(_action(text) for text in actions),
        other_actions,
        tuple(_resource(text, variables=variables) for text in resources),
        other_resources,
        _conditions(entry.get("Condition", {}), variables=variables),
    )


def _either(entry: Mapping[str, Any], name: str) -> tuple[list[str], bool]:
    given = [member for member in (name, "Not" + name) if member in entry]
    if len(given) != 1:
        _refuse(f"A statement must have either {name} or Not{name}.")
    values = entry[given[0]]
    values = values if isinstance(values, list) else [values]
    if not values or not all(isinstance(value, str) for value in values):
        _refuse(f"{given[0]} must be a text or a list of texts.")
    return values, given[0] != name


def _action(text: str) -> Pattern:
    if text != "*" and _ACTION.fullmatch(text) is None:
        _refuse(f'Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. Action: "{text[:200]}".')
    return read_pattern(text, variables=False, ignore_case=True)


def _resource(text: str, *, variables: bool) -> Pattern:
    if text != "*" and not text.startswith("arn:"):
        _refuse(f'Resource {text[:200]} must be in ARN format or "*".')
    # SageMaker's names are unique whatever their case, and its ARNs are found in either (control-plane.md section 4.1).
    ignore_case = text.split(":")[2:3] == ["sagemaker"]
    try:
        return read_pattern(text, variables=variables, ignore_case=ignore_case)
    except UnusablePattern as fault:
        _refuse(f"A Resource cannot be read: {fault}.")


def _conditions(block: Any, *, variables: bool) -> tuple[Condition, ...]:
    if not isinstance(block, dict) or not all(isinstance(keys, dict) for keys in block.values()):
        _refuse('Condition must have the form {"operator": {"key": value}}.')
    return tuple(
        _condition(name, key, values, variables=variables)
        for name, keys in block.items()
        for key, values in keys.items()
    )


def _condition(name: str, key: str, values: Any, *, variables: bool) -> Condition:
    if _KEY.fullmatch(key) is None:
        _refuse(f'A condition key must be prefaced by a vendor, e.g., aws or sagemaker: "{key[:200]}".')
    if is_missing(key):
        _refuse(f"Moorage does not have the condition key {key[:200]} yet.")
    try:
        return read_condition(name, key, values, variables=variables)
    except UnusableCondition as fault:
        _refuse(str(fault))


def _check_members(what: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in given:
        if name not in known:
            _refuse(f'{what} has an element that policies do not have: "{name[:200]}".')


def _check_sids(entries: list[dict[str, Any]]) -> None:
    sids = [entry["Sid"] for entry in entries if "Sid" in entry]
    for sid in sids:
        if not isinstance(sid, str) or _SID.fullmatch(sid) is None:
            _refuse(f"Statement IDs (SID) must be alpha-numeric: {sid!a:.200}.")
        if sid and sids.count(sid) > 1:
            _refuse(f"Statement IDs (SID) in a single policy must be unique: {sid[:200]}.")


def _load(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except MalformedPolicy:
        raise
    except (ValueError, RecursionError) as fault:
        raise MalformedPolicy("Syntax errors in policy: it is not valid JSON.") from fault
    if not isinstance(document, dict):
        _refuse("Syntax errors in policy: it must be a JSON object.")
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("Syntax errors in policy: an element occurs twice.")
    return members


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"Syntax errors in policy: {name} is not JSON.")


def _refuse(message: str) -> NoReturn:
    raise MalformedPolicy(message)
