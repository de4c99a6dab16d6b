"""The manner of the images that are Moorage's own (``moorage/onnx``, ``moorage/python``), where no container of AWS is.

A request that cannot be read is 400, a media type that is not known 415 or 406, and what the customer's code raises
500; each says why on one plain line. Media types may have parameters, and Accept may be a list.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..handlers import Handlers, one_line
from ..wire import Answer, plain


class BadRequest(Exception):
    """A request whose body cannot be read or does not fit the model."""

    status = 400


class UnknownType(BadRequest):
    """A body of a media type that cannot be read."""

    status = 415


class NotAcceptable(BadRequest):
    """A request for a media type that cannot be written."""

    status = 406


class NeutralHandlers(Handlers):
    """A loaded model and the functions that use it; what a request is at fault for is said with its status."""

    def _as_text(self, body: bytes) -> str:
        try:
            return body.decode()
        except UnicodeDecodeError as fault:
            raise BadRequest(f"The body is not text in UTF-8: {fault}.") from fault

    def _failed(self, fault: BaseException) -> Answer:
        if isinstance(fault, BadRequest):
            return plain(fault.status, " ".join(str(fault).split()))
        return plain(500, one_line(fault))


def media_type_of(value: str) -> str:
    """Give a media type without its parameters, in small letters."""
    return value.partition(";")[0].strip().lower()


def choose(accept: str, known: Iterable[str]) -> str:
    """Give the first media type of an Accept header that is known; raises NotAcceptable."""
    known = tuple(known)
    for entry in accept.split(","):
        media_type = media_type_of(entry)
        if media_type in known:
            return media_type
        if media_type == "*/*" or (media_type.endswith("/*") and known[0].startswith(media_type[:-1])):
            return known[0]
    raise NotAcceptable(f"{accept} cannot be answered; ask for {', '.join(known)}.")
