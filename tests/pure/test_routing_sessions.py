import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.routing import chosen, endpoint, variant

from moorage.aws.shapes import load_service
from moorage.routing.choice import Choice, Refusal
from moorage.routing.conditions import Conditions
from moorage.routing.decide import make_routes
from moorage.routing.sessions import Binding, Opened, SessionRefusal, closes, decide_bound, read_opened

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
LATER = "2023-11-14T23:00:00Z"
LATER_SECONDS = 1_700_002_800.0
NEW = b"X-Amzn-SageMaker-New-Session-Id"
PLAIN = b"X-Amzn-SageMaker-Session-Id"
CLOSED = b"X-Amzn-SageMaker-Closed-Session-Id"

BINDING = Binding("0", "r", "ep", "s-1", "a", "a-1", LATER_SECONDS, version=5)
ROUTES = make_routes(endpoint(variant("a", 1, 3), variant("b", 100)))


def opened(*headers: tuple[bytes, bytes]) -> Opened | None:
    return read_opened([(b"Content-Type", b"text/csv"), *headers], NOW, 1200)


def bound(binding: Binding = BINDING, conditions: Conditions | None = None, **more: Any) -> Any:
    return decide_bound(ROUTES, binding, conditions or Conditions(), **{"version": 5, **more})


@pytest.mark.parametrize("name", [NEW, PLAIN, NEW.lower(), PLAIN.upper()])
@pytest.mark.parametrize("value", [f"s-1; Expires={LATER}", f"s-1;Expires={LATER}", f" s-1 ;  expires={LATER} "])
def test_both_forms_open_a_session(name: bytes, value: str) -> None:
    assert opened((name, value.encode())) == Opened("s-1", LATER_SECONDS)


def test_the_name_made_for_it_wins() -> None:
    assert opened((PLAIN, b"old"), (NEW, b"new; Expires=" + LATER.encode())) == Opened("new", LATER_SECONDS)


@pytest.mark.parametrize("rest", [b"", b";", b"; Expires=tomorrow", b"; Expires=2023-02-31T00:00:00Z", b"; Max-Age=5"])
def test_without_a_readable_end_a_session_has_the_usual_life(rest: bytes) -> None:
    assert opened((PLAIN, b"s-1" + rest)) == Opened("s-1", NOW + 1200)


@pytest.mark.parametrize(
    "value",
    [b"", b"NEW_SESSION", b"../x", b"-a", b"a-", b"a b", b"\xff", b"a" * 227, b"; Expires=" + LATER.encode()],
)
def test_what_is_no_id_opens_nothing(value: bytes) -> None:
    assert opened((NEW, value)) is None


def test_an_answer_without_a_session_opens_none() -> None:
    assert opened((CLOSED, b"s-1")) is None


@given(
    st.from_regex(r"\A[a-zA-Z0-9](-{0,2}[a-zA-Z0-9]){0,75}\Z"),
    st.none() | st.datetimes().map(lambda at: at.isoformat(timespec="seconds") + "Z"),
    st.sampled_from([0.0, 1.5, 1200.0, 1e12, 1e300]),
)
def test_what_the_client_is_told_is_as_the_model_says(session_id: str, expires: str | None, life: float) -> None:
    value = session_id if expires is None else f"{session_id}; Expires={expires}"
    told = read_opened([(NEW, value.encode())], NOW, life)
    assert told is not None
    shape: Any = load_service("sagemaker-runtime").shape("NewSessionResponseHeader")
    header = told.header.decode()
    assert re.search(shape.pattern, header)
    assert len(header) <= shape.max
    assert expires is None or header == value
    assert read_opened([(NEW, told.header)], 0.0, 0.0) == told


def test_only_the_session_itself_is_closed() -> None:
    assert closes([(CLOSED, b"s-1")], "s-1")
    assert closes([(CLOSED.lower(), b" s-1 ")], "s-1")
    assert not closes([(CLOSED, b"s-2")], "s-1")
    assert not closes([(PLAIN, b"s-1")], "s-1")
    assert not closes([], "s-1")


def test_a_session_goes_to_its_instance_whatever_the_weights_and_suspicions() -> None:
    decision = bound(conditions=Conditions(suspects={"a-1"}))
    assert isinstance(decision, Choice)
    assert (decision.variant.name, chosen(decision)) == ("a", "a-1")
    assert chosen(bound(target_variant="a")) == "a-1"


@pytest.mark.parametrize(
    ("binding", "more", "refusal"),
    [
        (BINDING, {"target_variant": "b"}, SessionRefusal.OTHER_VARIANT),
        (BINDING, {"target_variant": "unheard"}, SessionRefusal.OTHER_VARIANT),
        (BINDING, {"tried": {"a-1"}}, SessionRefusal.LOST),
        (BINDING, {"conditions": Conditions(full={"a-1"})}, Refusal.FULL),
        (BINDING, {"conditions": Conditions(full={"a-1"}), "tried": {"a-1"}}, SessionRefusal.LOST),
        (replace(BINDING, instance_id="a-9"), {}, SessionRefusal.LOST),
        (replace(BINDING, instance_id="b-0"), {}, SessionRefusal.LOST),
        (replace(BINDING, variant="gone"), {}, SessionRefusal.LOST),
        (replace(BINDING, instance_id="a-9"), {"version": 4}, Refusal.NO_INSTANCE),
        (replace(BINDING, variant="new"), {"version": 4}, Refusal.NO_INSTANCE),
    ],
)
def test_a_session_goes_nowhere_else(binding: Binding, more: Any, refusal: Refusal | SessionRefusal) -> None:
    assert bound(binding, **more) is refusal


def test_bindings_are_read_as_they_were_written() -> None:
    assert Binding.from_bytes(BINDING.to_bytes()) == BINDING


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"account": "0"}', b"7", BINDING.to_bytes()[:-1]])
def test_what_is_no_binding_is_told_apart(content: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        Binding.from_bytes(content)
