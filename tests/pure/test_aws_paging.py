"""A page's token leads to the next page of the same list and to nothing else."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.aws.errors import ClientFault
from moorage.aws.paging import decode_token, encode_token

FILTERS = {"NameContains": "a", "SortBy": None, "CreationTimeAfter": 1.5}


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_token_gives_its_position_back(moment: float, name: str) -> None:
    token = encode_token((moment, name), FILTERS)
    assert decode_token(token, {"NameContains": "a", "CreationTimeAfter": 1.5}, (float, str)) == (moment, name)


def refusal(token: str, filters: dict[str, object]) -> str:
    with pytest.raises(ClientFault) as caught:
        decode_token(token, filters, (float, str))
    assert caught.value.code == "ValidationException"
    return caught.value.message


def test_a_token_of_another_list_is_refused() -> None:
    message = refusal(encode_token((1.0, "m"), FILTERS), {"NameContains": "b"})
    assert message.startswith("Invalid pagination token")


@pytest.mark.parametrize("position", [(1, "m"), ("m", 1.0), (1.0,), (1.0, "m", "n")])
def test_a_token_with_another_position_is_refused(position: tuple[float | str, ...]) -> None:
    assert refusal(encode_token(position, {}), {})


@pytest.mark.parametrize("content", [[], {}, 5, "text", [1, 2, 3], [["m"], None], [None, None]])
def test_a_token_that_is_not_ours_is_refused(content: object) -> None:
    assert refusal(base64.urlsafe_b64encode(json.dumps(content).encode()).decode(), {})


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(token: str) -> None:
    assert refusal(token, {})
