import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.routing.prompt import CHAT_BYTES, Prompt, no_prompt, text_of_messages


def chat(*messages: Any, **more: Any) -> bytes:
    return json.dumps({"model": "", "messages": messages, **more}).encode()


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=4), st.integers(1, 50))
def test_start_of_a_body_does_not_depend_on_its_pieces(body: bytes, cuts: list[int], length: int) -> None:
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    assert Prompt(pieces).start(length) == body[:length]


def test_no_prompt_is_empty() -> None:
    assert (no_prompt().start(10), no_prompt().prefix_id) == (b"", "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat(said("Be brief.", "system"), said("Hello")), "Be brief.Hello"),
        (chat(said([{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}])), "What is this?"),
        (chat(said([{"type": "image_url", "image_url": {"url": "data:..."}}, {"type": "text", "text": "?"}])), "?"),
        (chat(said(None, "assistant"), said("and?")), "and?"),
        (chat(said(7), 7, None, [], said([7, None, {"text": 7}]), said("ok")), "ok"),
        (chat(), ""),
        (b'{"messages": "hello"}', ""),
        (b'{"prompt": "hello"}', ""),
        (b"[]", ""),
        (b"7", ""),
        (b"", ""),
        (b"a,b,c\n1,2,3", ""),
        (b'{"messages": [{"content": "\xff"}]}', ""),
        (b"[" * 5000, ""),
    ],
)
def test_text_of_messages(body: bytes, text: str) -> None:
    assert text_of_messages(body, 1000) == text


def test_messages_count_by_characters() -> None:
    body = chat(said("äöü", "system"), said("日本語"))
    assert text_of_messages(body, 5) == "äöü日本"
    assert Prompt([body], chat=True).start(5) == "äöü日本".encode()


def test_what_surrounds_the_messages_does_not_matter() -> None:
    one, other = chat(said("Hello"), temperature=0), chat(said("Hello"), stream=True)
    assert Prompt([one], chat=True).start(99) == Prompt([other], chat=True).start(99) == b"Hello"
    assert Prompt([b'{"stream": 1,'], chat=True).start(99) == b'{"stream": 1,'


@pytest.mark.parametrize("body", [b"no json", chat(), chat(said([{"type": "image_url"}]))])
def test_chat_without_text_counts_by_its_bytes(body: bytes) -> None:
    assert Prompt([body], chat=True).start(12) == body[:12]


def test_a_chat_too_large_to_parse_counts_by_its_bytes() -> None:
    body = chat(said("x" * CHAT_BYTES))
    assert Prompt([body[:9], body[9:]], chat=True).start(20) == body[:20]


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(chat))
def test_no_body_breaks_it(body: bytes) -> None:
    assert isinstance(Prompt([body], chat=True).start(30), bytes)
