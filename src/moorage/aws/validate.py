"""The modelled constraints: required, length, range, pattern, enumeration, at any depth, in AWS's grammar.

All violations go into one message (control-plane.md section 2.2). Members are visited in the order of their
declaration; of one value, its length comes before its pattern. Faults of the elements of a list of scalars, and of a
map's keys and scalar values, are told of the whole list or map.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from moorage.aws.errors import validation_exception
from moorage.aws.patterns import compile_pattern
from moorage.aws.shapes import (
    BlobShape,
    ListShape,
    MapShape,
    NumberShape,
    Shape,
    StringShape,
    StructureShape,
)

MOST_VIOLATIONS = 100
"""A megabyte of faults gets an answer of a bounded size."""

_READABLE = 4
"""Times the allowed length: what is longer is not matched with its pattern, which can take the square of the length."""

_NOT_NULL = "Member must not be null"


def check(shape: StructureShape | None, value: Mapping[str, Any]) -> None:
    """Raise ValidationException with all violations of a request."""
    if shape is not None and (found := violations(shape, value)):
        raise validation_exception(message_of(found))


def violations(shape: StructureShape, value: Mapping[str, Any], ignored: Iterable[str] = ()) -> list[str]:
    """Give the violations of a structure, at most a hundred; members named in ``ignored`` are not looked at."""
    return list(islice(_inside_structure(shape, value, "", frozenset(ignored)), MOST_VIOLATIONS))


def message_of(found: list[str]) -> str:
    """Make the one message of all violations."""
    plural = "" if len(found) == 1 else "s"
    return f"{len(found)} validation error{plural} detected: {'; '.join(found)}"


def _inside_structure(
    shape: StructureShape, value: Mapping[str, Any], path: str, ignored: frozenset[str] = frozenset()
) -> Iterator[str]:
    for name, member in shape.members.items():
        given = value.get(name)
        if (given is None and not member.required) or name in ignored:
            continue
        yield from _violations(member.shape, given, f"{path}{name[0].lower()}{name[1:]}")


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    for constraint in _broken(shape, value):
        shown = "null" if value is None else f"'{_shown(shape, value)}'"
        yield f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"
    # What is too long has been told already; looking at each of its elements would make it no clearer.
    if value is None or _is_too_long(shape, value):
        return
    if isinstance(shape, StructureShape):
        yield from _inside_structure(shape, value, f"{path}.")
    elif isinstance(shape, ListShape) and not _is_scalar(shape.member):
        for index, element in enumerate(value, 1):
            yield from _violations(shape.member, element, f"{path}.{index}.member")
    elif isinstance(shape, MapShape) and not _is_scalar(shape.value):
        for key, element in value.items():
            yield from _violations(shape.value, element, f"{path}.{key}.member")


def _broken(shape: Shape, value: Any) -> Iterator[str]:
    """Give the texts of the constraints that a value itself breaks."""
    if value is None:
        yield _NOT_NULL
    elif isinstance(shape, StringShape):
        yield from _broken_by_string(shape, value)
    elif isinstance(shape, NumberShape):
        yield from _broken_by_size("value", shape, value)
    elif isinstance(shape, BlobShape | ListShape | MapShape):
        yield from _broken_by_size("length", shape, len(value))
        if not _is_too_long(shape, value):
            yield from _broken_by_elements(shape, value)


def _broken_by_string(shape: StringShape, value: str) -> Iterator[str]:
    if shape.enum:
        if value not in shape.enum:
            yield _enum_text(shape)
        return
    yield from _broken_by_size("length", shape, len(value))
    if shape.pattern is None or (shape.max is not None and len(value) > _READABLE * shape.max):
        return
    if not compile_pattern(shape.pattern).fullmatch(value):
        yield _pattern_text(shape)


def _broken_by_size(kind: str, shape: Shape, size: float) -> Iterator[str]:
    if shape.max is not None and size > shape.max:
        yield f"Member must have {kind} less than or equal to {shape.max}"
    if shape.min is not None and size < shape.min:
        yield f"Member must have {kind} greater than or equal to {shape.min}"


def _broken_by_elements(shape: Shape, value: Any) -> Iterator[str]:
    if isinstance(shape, ListShape):
        yield from _broken_by_any("Member", shape.member, value)
    elif isinstance(shape, MapShape):
        yield from _broken_by_any("Map keys", shape.key, value)
        yield from _broken_by_any("Map value", shape.value, value.values())


def _broken_by_any(subject: str, shape: Shape, values: Iterable[Any]) -> Iterator[str]:
    """Give one text, with all constraints of the element, when any element breaks one."""
    if not _is_scalar(shape):
        return
    found = next((broken for value in values for broken in _broken(shape, value)), None)
    if found is not None:
        constraints = [_NOT_NULL] if found == _NOT_NULL else list(_constraint_texts(shape))
        yield f"{subject} must satisfy constraint: [{', '.join(constraints)}]"


def _constraint_texts(shape: Shape) -> Iterator[str]:
    kind = "value" if isinstance(shape, NumberShape) else "length"
    if shape.max is not None:
        yield f"Member must have {kind} less than or equal to {shape.max}"
    if shape.min is not None:
        yield f"Member must have {kind} greater than or equal to {shape.min}"
    if isinstance(shape, StringShape):
        if shape.pattern is not None:
            yield _pattern_text(shape)
        if shape.enum:
            yield _enum_text(shape)


def _enum_text(shape: StringShape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _pattern_text(shape: StringShape) -> str:
    """Tell a pattern; AWS's servers print those of names with a caret, which the model does not have."""
    pattern = shape.pattern or ""
    caret = "^" if shape.name.endswith("Name") and not pattern.startswith("^") else ""
    return f"Member must satisfy regular expression pattern: {caret}{pattern}"


def _is_scalar(shape: Shape) -> bool:
    return not isinstance(shape, StructureShape | ListShape | MapShape)


def _is_too_long(shape: Shape, value: Any) -> bool:
    return isinstance(shape, ListShape | MapShape) and shape.max is not None and len(value) > shape.max


def _shown(shape: Shape, value: Any) -> str:
    """Print a value as Java's toString does."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(shape, StructureShape):
        members = [f"{name}={_shown(shape.members[name].shape, inner)}" for name, inner in value.items()]
        return f"{shape.name}({', '.join(members)})"
    if isinstance(shape, ListShape):
        return f"[{', '.join(_shown(shape.member, element) for element in value)}]"
    if isinstance(shape, MapShape):
        return f"{{{', '.join(f'{key}={_shown(shape.value, inner)}' for key, inner in value.items())}}}"
    if isinstance(shape, BlobShape):
        return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
    return str(value)
