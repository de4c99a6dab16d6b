"""A pattern matches what it says, quickly, and what a variable stands for is never a pattern itself."""

import re
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.iam.patterns import UnusablePattern, read_pattern

LETTERS = st.text("ab:*?", max_size=12)


@given(LETTERS, LETTERS)
def test_matching_is_that_of_a_regular_expression(pattern: str, text: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    expected = re.fullmatch(expression, text, re.DOTALL) is not None
    assert read_pattern(pattern).matches(text, {}) is expected


def test_fnmatch_agrees_on_an_arn() -> None:
    pattern, text = "arn:aws:s3:::b?cket/*/model*", "arn:aws:s3:::bucket/a/b/model.tar.gz"
    assert re.match(translate(pattern), text)
    assert read_pattern(pattern).matches(text, {})


@pytest.mark.timeout(5)
def test_many_stars_take_no_time() -> None:
    pattern = read_pattern("*a" * 2000 + "b")
    assert not pattern.matches("a" * 20_000, {})


@pytest.mark.timeout(5)
def test_many_stars_and_question_marks_take_no_time() -> None:
    pattern = read_pattern("*a?" * 1000 + "b")
    assert not pattern.matches("a" * 3_000, {})


@pytest.mark.parametrize(
    ("pattern", "context", "text", "matches"),
    [
        ("home/${aws:username}/*", {"aws:username": ("ann",)}, "home/ann/x", True),
        ("home/${aws:UserName}/*", {"aws:username": ("ann",)}, "home/bob/x", False),
        ("home/${aws:username}", {"aws:username": ("*",)}, "home/bob", False),
        ("home/${aws:username}", {"aws:username": ("*",)}, "home/*", True),
        ("home/${aws:username}", {}, "home/", False),
        ("home/${aws:username, 'nobody'}", {}, "home/nobody", True),
        ("home/${aws:username}", {"aws:username": ("a", "b")}, "home/a", False),
        ("${*}${?}${$}", {}, "*?$", True),
        ("${*}", {}, "a", False),
        ("${aws:ResourceTag/my team}", {"aws:resourcetag/my team": ("x",)}, "x", True),
    ],
)
def test_variables_stand_for_what_the_request_says(
    pattern: str, context: dict[str, tuple[str, ...]], text: str, *, matches: bool
) -> None:
    assert read_pattern(pattern).matches(text, context) is matches


@pytest.mark.parametrize("pattern", ["${", "a${aws:username", "${}", "${username}", "${aws:NoSuchKey}", "${ : }"])
def test_a_variable_that_nobody_fills_in_is_refused(pattern: str) -> None:
    with pytest.raises(UnusablePattern):
        read_pattern(pattern)


def test_without_variables_the_text_is_itself() -> None:
    assert read_pattern("${aws:username}", variables=False).matches("${aws:username}", {})


def test_case_counts_unless_it_does_not() -> None:
    assert not read_pattern("Ab*").matches("abc", {})
    assert read_pattern("Ab?", ignore_case=True).matches("aBC", {})
