"""Requests that break one modelled constraint each, made from botocore's model, with the message that is expected.

An oracle: it shares nothing with Moorage's own reading of the model but the grammar of control-plane.md section 2.2.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

MODEL = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")

_SAMPLES = (
    "a",
    "a/b",
    "/a",
    "s3://b/k",
    "mig-1g.10gb",
    "arn:aws:iam::000000000000:role/r",
    "arn:aws:sns:us-east-1:000000000000:t",
    "arn:aws:sagemaker:us-east-1:000000000000:model/m",
    "arn:aws:sagemaker:us-east-1:000000000000:model-package/p",
    "sha256:" + "0" * 64,
    "1.2.3",
)
_BREAKERS = ("*", "\n", "_", "%", "a b")

Step = str | int
"""A member of a structure, a key of a map, or a position in a list."""


@dataclass(frozen=True)
class Case:
    """One broken constraint."""

    operation: str
    name: str
    members: dict[str, Any]
    message: str


@dataclass(frozen=True)
class _Site:
    """Where a value stands: as JSON and in AWS's words."""

    operation: str
    steps: tuple[Step, ...]
    path: str


def cases_of(operation: str) -> Iterator[Case]:
    """Break each constraint of an operation's input by itself."""
    shape = MODEL.operation_model(operation).input_shape
    for member, inner in shape.members.items():
        site = _Site(operation, (member,), _lower(member))
        yield from _required(shape, member, site)
        yield from _cases(inner, site)


def valid(shape: Shape, *, everything: bool = False) -> Any:
    """Make the smallest value that keeps every constraint, or one with every member that there is."""
    about = shape.metadata
    match shape.type_name:
        case "structure":
            names = list(shape.members) if everything else shape.required_members
            return {name: valid(shape.members[name], everything=everything) for name in names}
        case "list":
            return [valid(shape.member, everything=everything)] * max(1, about.get("min", 0))
        case "map":
            return {valid(shape.key): valid(shape.value)}
        case "string":
            return shape.enum[0] if shape.enum else _sample(shape)
        case "boolean":
            return False
        case _:
            return max(1, about.get("min", 1))


def _sample(shape: Shape) -> str:
    about = shape.metadata
    samples = (text * (1 if len(text) >= about.get("min", 0) else about["min"]) for text in _SAMPLES)
    return next(text for text in samples if not _broken_by_text(shape, text))


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]


def _place(operation: str, steps: tuple[Step, ...], value: Any, *, leave_out: bool = False) -> dict[str, Any]:
    """Make a valid request and put a value into it; what leads there is made where it is missing."""
    shape = MODEL.operation_model(operation).input_shape
    made = holder = valid(shape)
    for step in steps[:-1]:
        shape = shape.members[step] if shape.type_name == "structure" else shape.member
        if isinstance(step, str):
            holder.setdefault(step, valid(shape))
        holder = holder[step]
    if leave_out:
        holder.pop(steps[-1], None)
    else:
        holder[steps[-1]] = value
    request: dict[str, Any] = made
    return request


def _case(site: _Site, kind: str, value: Any, shown: str, constraints: list[str]) -> Case:
    told = [f"Value {shown} at '{site.path}' failed to satisfy constraint: {text}" for text in constraints]
    message = f"{len(told)} validation error{'s' if len(told) > 1 else ''} detected: {'; '.join(told)}"
    members = _place(site.operation, site.steps, value, leave_out=kind == "required")
    return Case(site.operation, f"{site.operation}-{site.path}-{kind}", members, message)


def _required(shape: Shape, member: str, site: _Site) -> Iterator[Case]:
    if member in shape.required_members:
        yield _case(site, "required", None, "null", ["Member must not be null"])


def _cases(shape: Shape, site: _Site) -> Iterator[Case]:
    if shape.type_name == "structure":
        for member, inner in shape.members.items():
            below = _Site(site.operation, (*site.steps, member), f"{site.path}.{_lower(member)}")
            yield from _required(shape, member, below)
            yield from _cases(inner, below)
        return
    for kind, value, constraints in _broken(shape):
        yield _case(site, kind, value, f"'{_show(shape, value)}'", constraints)
    if shape.type_name == "list" and shape.member.type_name in {"structure", "list"}:
        yield from _cases(shape.member, _Site(site.operation, (*site.steps, 0), f"{site.path}.1.member"))


def _broken(shape: Shape) -> Iterator[tuple[str, Any, list[str]]]:
    """Give values that break one constraint of a shape, with all that they break."""
    match shape.type_name:
        case "string":
            for kind, text in _bad_texts(shape):
                yield kind, text, _broken_by_text(shape, text)
        case "integer" | "long" | "float" | "double":
            yield from _bad_numbers(shape)
        case "list":
            yield from _bad_lists(shape)
        case "map":
            yield from _bad_maps(shape)


def _bad_texts(shape: Shape) -> Iterator[tuple[str, str]]:
    about = shape.metadata
    if shape.enum:
        yield "enum", "no-such-value"
        return
    if "max" in about:
        sample = _sample(shape)
        yield "max", sample + "a" * (about["max"] + 1 - len(sample))
    if about.get("min", 0) > 0:
        yield "min", _sample(shape)[: about["min"] - 1]
    if "pattern" in about:
        padded = (text + text[-1] * max(0, about.get("min", 0) - len(text)) for text in _BREAKERS)
        breaker = next((text for text in padded if not _matches(about["pattern"], text)), None)
        if breaker is not None:
            yield "pattern", breaker


def _broken_by_text(shape: Shape, text: str) -> list[str]:
    if shape.enum:
        return [f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"]
    about = shape.metadata
    broken = []
    if len(text) > about.get("max", len(text)):
        broken.append(f"Member must have length less than or equal to {about['max']}")
    if len(text) < about.get("min", 0):
        broken.append(f"Member must have length greater than or equal to {about['min']}")
    if "pattern" in about and not _matches(about["pattern"], text):
        broken.append(_pattern_text(shape))
    return broken


def _matches(pattern: str, text: str) -> bool:
    """Match as Java does, well enough for the texts of this module."""
    pattern = re.sub(r"\$\{\d+,\d+\}$", "", pattern)
    pattern = re.sub(r"\[\\p\{L\}\\p\{M\}.*\]", r"[\\x20-\\x7e]", pattern)
    return re.fullmatch(pattern.replace(r"\p{L}\p{Z}\p{N}", r"a-zA-Z0-9 "), text, re.ASCII) is not None


def _pattern_text(shape: Shape) -> str:
    caret = "^" if shape.name.endswith("Name") else ""
    return f"Member must satisfy regular expression pattern: {caret}{shape.metadata['pattern']}"


def _bad_numbers(shape: Shape) -> Iterator[tuple[str, Any, list[str]]]:
    whole = shape.type_name in {"integer", "long"}
    about = shape.metadata
    if "max" in about:
        value = about["max"] + 1 if whole else float(about["max"] + 1)
        yield "max", value, [f"Member must have value less than or equal to {about['max']}"]
    if "min" in about:
        value = about["min"] - 1 if whole else float(about["min"] - 1)
        yield "min", value, [f"Member must have value greater than or equal to {about['min']}"]


def _bad_sizes(shape: Shape) -> Iterator[tuple[str, int, str]]:
    about = shape.metadata
    if "max" in about:
        yield "max", about["max"] + 1, f"Member must have length less than or equal to {about['max']}"
    if about.get("min", 0) > 0:
        yield "min", about["min"] - 1, f"Member must have length greater than or equal to {about['min']}"


def _bad_lists(shape: Shape) -> Iterator[tuple[str, Any, list[str]]]:
    for kind, size, text in _bad_sizes(shape):
        yield kind, [valid(shape.member)] * size, [text]
    if shape.member.type_name == "string":
        for kind, bad in _bad_texts(shape.member):
            constraints = ", ".join(_all_constraints(shape.member))
            yield f"element-{kind}", [bad], [f"Member must satisfy constraint: [{constraints}]"]


def _bad_maps(shape: Shape) -> Iterator[tuple[str, Any, list[str]]]:
    key, value = valid(shape.key), valid(shape.value)
    for kind, size, text in _bad_sizes(shape):
        yield kind, {f"{key}{number}": value for number in range(size)}, [text]
    for kind, bad in _bad_texts(shape.key):
        yield f"key-{kind}", {bad: value}, [f"Map keys must satisfy constraint: [{_listed(shape.key)}]"]
    for kind, bad in _bad_texts(shape.value):
        yield f"value-{kind}", {key: bad}, [f"Map value must satisfy constraint: [{_listed(shape.value)}]"]


def _listed(shape: Shape) -> str:
    return ", ".join(_all_constraints(shape))


def _all_constraints(shape: Shape) -> Iterator[str]:
    about = shape.metadata
    if "max" in about:
        yield f"Member must have length less than or equal to {about['max']}"
    if "min" in about:
        yield f"Member must have length greater than or equal to {about['min']}"
    if "pattern" in about:
        yield _pattern_text(shape)
    if shape.enum:
        yield f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _show(shape: Shape, value: Any) -> str:
    """Print a value as Java does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_show(shape.member, element) for element in value)}]"
    if isinstance(value, dict) and shape.type_name == "map":
        return f"{{{', '.join(f'{key}={inner}' for key, inner in value.items())}}}"
    if isinstance(value, dict):
        shown = (f"{name}={_show(shape.members[name], inner)}" for name, inner in value.items())
        return f"{shape.name}({', '.join(shown)})"
    return str(value)
