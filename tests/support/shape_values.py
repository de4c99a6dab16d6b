"""Hypothesis strategies from the services' models: values of the right kinds, without regard to constraints."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from hypothesis import strategies as st

from moorage.aws.shapes import (
    BlobShape,
    BooleanShape,
    ListShape,
    MapShape,
    NumberShape,
    Shape,
    StringShape,
    StructureShape,
    TimestampShape,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
header_texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
moments = st.integers(10**7, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))

_SCALARS: dict[type[Shape], st.SearchStrategy[Any]] = {
    BooleanShape: st.booleans(),
    TimestampShape: moments,
    BlobShape: st.binary(max_size=8),
}


@st.composite
def _structures(draw: st.DrawFn, shape: StructureShape) -> dict[str, Any]:
    """Draw some of the members; a composite, because the text of nested dictionaries' strategies grows huge."""
    return {name: draw(values_of(member.shape)) for name, member in shape.members.items() if draw(st.booleans())}


@cache
def values_of(shape: Shape) -> st.SearchStrategy[Any]:
    """Give a strategy of values as a user of boto3 gives them; times are datetimes in whole seconds."""
    match shape:
        case StructureShape():
            return _structures(shape)
        case ListShape():
            return st.lists(values_of(shape.member), max_size=2)
        case MapShape():
            return st.dictionaries(values_of(shape.key), values_of(shape.value), max_size=2)
        case StringShape():
            return st.sampled_from(shape.enum) if shape.enum else texts
        case NumberShape():
            whole = st.integers(-(2**31), 2**31 - 1)
            return whole if shape.whole else st.floats(width=32, allow_nan=False, allow_infinity=False)
        case _:
            return _SCALARS[type(shape)]


def with_seconds(value: Any) -> Any:
    """Give the value with times as seconds since the epoch, as Moorage has them."""
    if isinstance(value, dict):
        return {key: with_seconds(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_seconds(inner) for inner in value]
    return value.timestamp() if isinstance(value, datetime) else value
