"""Each operator, with one value and several, with and without the key; what cannot be understood is refused."""

from typing import Any

import pytest

from moorage.iam.conditions import UnusableCondition, read_condition


def holds(operator: str, values: Any, *given: str, key: str = "aws:username") -> bool:
    condition = read_condition(operator, key, values, variables=True)
    return condition.holds({key.lower(): given, "aws:userid": ("u1",)})


@pytest.mark.parametrize(
    ("operator", "values", "given", "expected"),
    [
        ("StringEquals", ["a", "b"], ["b"], True),
        ("StringEquals", "A", ["a"], False),
        ("StringEquals", "a*", ["ab"], False),
        ("StringEquals", "${aws:userid}", ["u1"], True),
        ("StringNotEquals", ["a", "b"], ["b"], False),
        ("StringNotEquals", ["a", "b"], ["c"], True),
        ("StringEqualsIgnoreCase", "A", ["a"], True),
        ("StringNotEqualsIgnoreCase", "A", ["a"], False),
        ("StringLike", ["a*", "?c"], ["bc"], True),
        ("StringNotLike", "a*", ["abc"], False),
        ("NumericEquals", 5, ["5.0"], True),
        ("NumericNotEquals", "5", ["6"], True),
        ("NumericLessThan", "5", ["5"], False),
        ("NumericLessThanEquals", "5", ["5"], True),
        ("NumericGreaterThan", "5", ["5.5"], True),
        ("NumericGreaterThanEquals", "5", ["4"], False),
        ("NumericEquals", "5", ["five"], False),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", ["2026-01-01T00:00:01Z"], True),
        ("DateLessThan", "2026-01-01", ["2026-01-01T00:00:01Z"], False),
        ("DateEquals", "1767225600", ["2026-01-01T00:00:00Z"], True),
        ("Bool", "true", ["true"], True),
        ("Bool", True, ["false"], False),
        ("IpAddress", ["10.0.0.0/8", "::1/128"], ["10.1.2.3"], True),
        ("IpAddress", "10.0.0.0/8", ["::ffff:10.1.2.3"], True),
        ("IpAddress", "10.0.0.0/8", ["11.0.0.1"], False),
        ("IpAddress", "10.0.0.0/8", ["nonsense"], False),
        ("NotIpAddress", "10.0.0.0/8", ["10.0.0.1"], False),
        ("ArnLike", "arn:aws:iam::*:user/*", ["arn:aws:iam::000000000000:user/ann"], True),
        ("ArnEquals", "arn:aws:iam::*:role/ann", ["arn:aws:iam::1:x:role/ann"], False),
        ("ArnLike", "arn:aws:iam::1:user/${aws:userid}", ["arn:aws:iam::1:user/u1"], True),
        ("ArnNotLike", "arn:aws:iam::1:user/*", ["arn:aws:iam::2:user/a"], True),
        ("ArnNotEquals", "arn:aws:iam::1:user/a", ["arn:aws:iam::1:user/a"], False),
        ("Null", "true", [], True),
        ("Null", False, ["x"], True),
        ("Null", "false", [], False),
        # Without a value.
        ("StringEquals", "a", [], False),
        ("StringNotEquals", "a", [], True),
        ("StringEqualsIfExists", "a", [], True),
        ("StringEqualsIfExists", "a", ["b"], False),
        ("IpAddress", "0.0.0.0/0", [], False),
        ("NotIpAddress", "0.0.0.0/0", [], True),
        # Sets.
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", "a", [], True),
        ("ForAnyValue:StringEquals", "a", ["b", "a"], True),
        ("ForAnyValue:StringEquals", "a", ["b"], False),
        ("ForAnyValue:StringEquals", "a", [], False),
        ("ForAnyValue:StringNotEquals", "a", ["a", "b"], True),
        ("ForAnyValue:StringNotEquals", "a", [], False),
        ("ForAllValues:StringNotLike", "a*", ["b", "ab"], False),
        ("ForAnyValue:StringEqualsIfExists", "a", [], True),
        ("StringEquals", "a", ["b", "a"], True),
        ("StringNotEquals", "a", ["b", "a"], False),
    ],
)
def test_operator(operator: str, values: Any, given: list[str], *, expected: bool) -> None:
    assert holds(operator, values, *given) is expected


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("StringEqual", "a"),
        ("stringequals", "a"),
        ("BinaryEquals", "YQ=="),
        ("ForSomeValues:StringEquals", "a"),
        ("ForAllValues:Null", "true"),
        ("NumericEquals", "five"),
        ("NumericEquals", "nan"),
        ("DateEquals", "yesterday"),
        ("Bool", "maybe"),
        ("Null", "maybe"),
        ("Null", ["true", "false"]),
        ("IpAddress", "10.0.0.0/40"),
        ("ArnLike", "user/ann"),
        ("StringEquals", []),
        ("StringEquals", {"a": 1}),
        ("StringEquals", None),
        ("StringEquals", "${aws:nosuch}"),
    ],
)
def test_what_cannot_be_understood_is_refused(operator: str, values: Any) -> None:
    with pytest.raises(UnusableCondition):
        read_condition(operator, "aws:username", values, variables=True)
