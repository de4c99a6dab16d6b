"""What a multi-model container is asked beside invocations (data-plane.md section 8.1), whoever has made it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from moorage.front.question import Question
from moorage.front.station import Station
from moorage.gateway.exchange import AnswerHead
from moorage.gateway.fronts import Fault

MOST_PAGES = 10_000
"""A container whose list of models has no end is not followed for ever."""

_BODY_BYTES = 2**20
_JSON = b"Content-Type: application/json\r\n"


class NoReply(Exception):
    """The container took no connection, closed it, or sent what is no answer; the text is for people."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A container's answer."""

    status: int
    body: bytes

    def document(self) -> Mapping[str, Any]:
        """Read a body that is a JSON object; empty where it is none."""
        try:
            read = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return read if isinstance(read, dict) else {}


class Contract:
    """One container's models. Callers set deadlines (``asyncio.timeout``); all methods raise NoReply."""

    def __init__(self, station: Station) -> None:
        self._station = station

    async def load(self, name: str, url: str) -> Reply:
        """Have a model loaded from a folder that the container sees; answered when it is."""
        return await self._ask("POST", "/models", orjson.dumps({"model_name": name, "url": url}))

    async def unload(self, name: str) -> Reply:
        """Have a model unloaded; answered when it is."""
        return await self._ask("DELETE", f"/models/{name}")

    async def has(self, name: str) -> bool:
        """Say whether a model is loaded."""
        return (await self._ask("GET", f"/models/{name}")).status == 200

    async def loaded(self) -> list[str]:
        """Name all models that are loaded, over all pages."""
        names: list[str] = []
        path = "/models"
        for _ in range(MOST_PAGES):
            reply = await self._ask("GET", path)
            if reply.status != 200:
                raise NoReply(f"GET /models answered {reply.status}")
            page = reply.document()
            names += [str(entry["modelName"]) for entry in page.get("models") or () if "modelName" in entry]
            token = page.get("nextPageToken")
            if not token:
                return names
            path = f"/models?next_page_token={token}"
        raise NoReply("GET /models has no last page")

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        lines = _JSON if body else b""
        collecting = _Collecting(asyncio.get_running_loop().create_future())
        asking = self._station.request(method.encode(), path.encode(), Question(lines, (body,), len(body)), collecting)
        try:
            return await collecting.reply
        except asyncio.CancelledError:
            asking.cancel()
            raise


class _Collecting:
    """Takes in a whole answer."""

    def __init__(self, reply: "asyncio.Future[Reply]") -> None:
        self.reply = reply
        self._status = 0
        self._pieces: list[bytes] = []
        self._size = 0

    def answer_begun(self, head: AnswerHead) -> None:
        """Take the status."""
        self._status = head.status

    def answer_piece(self, data: bytes) -> None:
        """Take a piece, of a body that is not larger than any of this contract."""
        self._size += len(data)
        if self._size <= _BODY_BYTES:
            self._pieces.append(data)

    def answer_ended(self) -> None:
        """Give it to whoever waits."""
        if not self.reply.done():
            self.reply.set_result(Reply(self._status, b"".join(self._pieces)))

    def asking_failed(self, fault: Fault) -> None:
        """Tell whoever waits that there is none."""
        if not self.reply.done():
            self.reply.set_exception(NoReply(f"the container gave no answer ({fault.kind})"))

    def asked_now(self) -> None:
        """Do nothing: nobody counts the time."""

    def note(self, measure: str, value: int) -> None:
        """Do nothing: what asks for models tells nobody."""
