"""AWS's page "Filter pattern syntax for metric filters, subscription filters, filter log events, and Live Tail"."""

import pytest

from moorage.aws.errors import ClientFault
from moorage.neighbours.logs.patterns import read_pattern

EVENTS = (b"[INFO] REQUEST FAILED", b"[WARN] UNAUTHORIZED REQUEST", b"[ERROR] 400 BAD REQUEST", b"\xff\xc3\xa4 done")


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("", {0, 1, 2, 3}),
        ("   ", {0, 1, 2, 3}),
        ("REQUEST", {0, 1, 2}),
        ("request", set()),
        ("ERROR BAD", {2}),
        ("BAD ERROR", {2}),
        ('"BAD REQUEST"', {2}),
        ('"[WARN]"', {1}),
        ("?INFO ?WARN", {0, 1}),
        ('?"[INFO]" ?"BAD REQUEST"', {0, 2}),
        ("REQUEST -ERROR", {0, 1}),
        ('REQUEST -"BAD REQUEST" -WARN', {0}),
        ("-REQUEST", {3}),
        ("?INFO REQUEST ?START", {0, 1, 2}),
        ("ä", {3}),
        ('"ä done"', {3}),
    ],
)
def test_pattern_matches(pattern: str, matching: set[int]) -> None:
    read = read_pattern(pattern)
    assert {index for index, event in enumerate(EVENTS) if read.matches(event)} == matching


def test_a_phrase_can_have_quotation_marks_and_backslashes() -> None:
    read = read_pattern(r'"\"level\":\\ \"error\""')
    assert read.matches(rb'{"level":\ "error"}')
    assert not read.matches(rb'{"level":"error"}')


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("Status:", "Invalid character(s) in term ':'"),
        ("a*", "Invalid character(s) in term '*'"),
        ("?(x", "Invalid character(s) in term '('"),
        ("--x", "Invalid character(s) in term '-'"),
        ('"no end', "Invalid filter pattern: a phrase in quotation marks has no end."),
        ("{ $.a = 1 }", "Moorage does not have patterns for JSON ({ ... }) in filter patterns yet."),
        (" [ip, user]", "Moorage does not have patterns of fields ([ ... ]) in filter patterns yet."),
        ("%a|b%", "Moorage does not have regular expressions (%...%) in filter patterns yet."),
        ("ERROR %a|b%", "Moorage does not have regular expressions (%...%) in filter patterns yet."),
    ],
)
def test_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ClientFault) as caught:
        read_pattern(pattern)
    assert (caught.value.code, caught.value.message) == ("InvalidParameterException", message)
