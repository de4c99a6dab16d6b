"""What a function that asks for it learns beside its data, and can say beside its result.

The members are those that public handlers use of the contexts of TorchServe and of the multi-model server
(data-plane.md section 9.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Headers(dict[str, str]):
    """Headers by lower-case name, found under any case: handlers ask for ``Accept`` as well as for ``accept``."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Give a header's value, or something in its place."""
        return super().get(name.lower(), default)


class RequestProcessor:
    """What is asked about a request, in the older words of the same servers."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def get_request_properties(self) -> Headers:
        """Give all headers of the request."""
        return self._headers

    def get_request_property(self, key: str) -> str | None:
        """Give a header of the request."""
        value: str | None = self._headers.get(key)
        return value


class Context:
    """What a function that asks for it learns beside its data; nothing is made before it is asked for."""

    __slots__ = ("_headers", "_model_dir", "headers", "status")

    manifest: Mapping[str, Any] = {}
    model_name = "model"

    def __init__(self, model_dir: str, headers: Mapping[str, str]) -> None:
        self._model_dir = model_dir
        self._headers = headers
        self.status: int | None = None
        """As the customer's code has set it; None: it has not."""
        self.headers: dict[str, str] | None = None
        """Of the response, as the customer's code has set them."""

    @property
    def system_properties(self) -> dict[str, Any]:
        """Where the model is, and on what it runs."""
        return {"model_dir": self._model_dir, "gpu_id": _gpu_id(), "batch_size": 1, "server_name": "Moorage"}

    @property
    def request_processor(self) -> list[RequestProcessor]:
        """The requests of a batch, which is always of one."""
        return [RequestProcessor(Headers(self._headers))]

    def get_request_header(self, index: int, key: str) -> str | None:
        """Give a header of the request; there is one request only, whose index is 0."""
        return self._headers.get(key.lower()) if index == 0 else None

    def get_all_request_header(self, index: int) -> dict[str, str]:
        """Give all headers of the request by lower-case name."""
        return Headers(self._headers) if index == 0 else {}

    def set_response_content_type(self, index: int, value: str) -> None:
        """Do nothing: in AWS's toolkits too, what output_fn returns or what was asked for is said after it."""

    def set_response_header(self, index: int, key: str, value: str) -> None:
        """Add a header to the answer."""
        if index == 0:
            self.headers = {**(self.headers or {}), key: value}

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:  # noqa: ARG002
        """Answer with another status; the phrase is the standard's."""
        if idx == 0:
            self.status = code


def _gpu_id() -> int | None:
    import sys

    torch = sys.modules.get("torch")
    return 0 if torch is not None and torch.cuda.is_available() else None
