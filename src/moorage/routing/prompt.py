"""The start of what a model is asked, for the strategies that send like to like. Worked out only when one asks.

What counts as the start (data-plane.md section 2.2): of InvokeEndpoint the first bytes of the body, on the OpenAI
path the first characters of the text of ``messages``. A body on the OpenAI path that has no such text (no JSON, no
messages, images alone) or is larger than ``CHAT_BYTES`` counts by its bytes: JSON is parsed at about 1 ms a
megabyte, and an event loop is not held up for longer than that.
"""

from collections.abc import Iterator, Sequence

import orjson

CHAT_BYTES = 1_048_576
"""Largest body on the OpenAI path that is parsed for its text."""


class Prompt:
    """A body, seen by its start."""

    __slots__ = ("_chat", "_chunks", "prefix_id", "target_model")

    def __init__(
        self, chunks: Sequence[bytes], *, chat: bool = False, prefix_id: str = "", target_model: str = ""
    ) -> None:
        """Look at a body in pieces; ``chat`` says that it came on the OpenAI path."""
        self._chunks = chunks
        self._chat = chat
        self.prefix_id = prefix_id
        """The member PrefixAwareId."""
        self.target_model = target_model
        """The member TargetModel."""

    def start(self, length: int) -> bytes:
        """Give the first ``length`` bytes of the body, or the first characters of the messages' text in UTF-8."""
        if self._chat and sum(map(len, self._chunks)) <= CHAT_BYTES:
            text = text_of_messages(b"".join(self._chunks), length)
            if text:
                return text.encode()
        return _first_bytes(self._chunks, length)


def no_prompt() -> Prompt:
    """Make the prompt of an invocation that has none."""
    return Prompt(())


def text_of_messages(body: bytes, length: int) -> str:
    """Give the first ``length`` characters of the text of an OpenAI request's messages; empty when there is none."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    messages = request.get("messages") if isinstance(request, dict) else None
    found: list[str] = []
    missing = length
    for text in _texts(messages if isinstance(messages, list) else []):
        found.append(text[:missing])
        missing -= len(text)
        if missing <= 0:
            break
    return "".join(found)


def _texts(messages: Sequence[object]) -> Iterator[str]:
    """Walk over the texts: a message's content is one, or a list of parts of which some are."""
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            for part in content:
                text = part.get("text") if isinstance(part, dict) else None
                if isinstance(text, str):
                    yield text


def _first_bytes(chunks: Sequence[bytes], length: int) -> bytes:
    if not chunks:
        return b""
    if len(chunks[0]) >= length:
        return chunks[0][:length]
    found, missing = [], length
    for chunk in chunks:
        found.append(chunk[:missing])
        missing -= len(chunk)
        if missing <= 0:
            break
    return b"".join(found)
