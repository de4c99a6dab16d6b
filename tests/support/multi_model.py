"""A container of many models that follows the rules of AWS's multi-model-server, and a front before it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.front import FrontWorld, listen_at, serve_order
from tests.support.gateway import Answer, FakeServer, Request
from tests.support.models import pack
from tests.support.objects import store_in

from moorage.base.settings import Limits, Settings
from moorage.front.process import serve
from moorage.front.spec import FrontContainer, FrontSpec, ManyModels, Mode
from moorage.objects.faults import BucketExists
from moorage.objects.folder import FolderStore
from moorage.objects.store import Description

PREFIX = "s3://models/fleet/"
PAGE = 2


class FakeModels(FakeServer):
    """The contract: 409 for what is there, 404 for what is not, 507 for what does not fit, a list in pages."""

    def __init__(self, path: Path, capacity: int = 100) -> None:
        super().__init__(path, self._answer)
        self.capacity = capacity
        self.models: dict[str, tuple[str, int]] = {}
        """URL and size, by name."""
        self.calls: list[str] = []
        """``POST /models TEXT``, ``DELETE TEXT``, ``invoke TEXT``; TEXT is what the model's file says."""
        self.texts: dict[str, str] = {}
        self.loading = 0
        self.most_loading = 0
        self.gates: dict[str, asyncio.Event] = {}
        """Loads of these texts go on when their gate is open."""
        self.refusals: dict[str, tuple[int, str]] = {}
        """Loads of these texts are refused."""
        self.invocations: dict[str, list[tuple[int, bytes]]] = {}
        """Answers of these texts' models, in order, in place of the usual one."""
        self.lists = True

    def lose(self, text: str) -> None:
        """Forget a model as a process that dies does."""
        for name in [name for name, its in self.texts.items() if its == text]:
            self.models.pop(name, None)

    async def _answer(self, request: Request, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _version = request.line.split(" ")
        path = urlsplit(target).path
        if path == "/ping":
            status, body = 200, b""
        elif path == "/models" and method == "POST":
            status, body = await self._load(json.loads(request.body))
        elif path == "/models":
            status, body = self._list(parse_qs(urlsplit(target).query))
        elif path.endswith("/invoke"):
            status, body = self._invoke(path.split("/")[2], request)
        elif method == "DELETE":
            status, body = self._unload(path.split("/")[2])
        else:
            status, body = (200 if path.split("/")[2] in self.models else 404), b"{}"
        writer.write(f"HTTP/1.1 {status} Reason\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async def _load(self, wish: dict[str, str]) -> tuple[int, bytes]:
        name, url = wish["model_name"], wish["url"]
        text = Path(url, "name").read_text()
        self.texts[name] = text
        self.calls.append(f"POST /models {text}")
        if name in self.models:
            return 409, b"already registered"
        if text in self.refusals:
            status, words = self.refusals[text]
            return status, words.encode()
        size = int(Path(url, "size").read_text())
        self.loading += 1
        self.most_loading = max(self.most_loading, self.loading)
        try:
            if text in self.gates:
                await self.gates[text].wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.loading -= 1
        if sum(its for _, its in self.models.values()) + size > self.capacity:
            return 507, b"no memory"
        self.models[name] = (url, size)
        return 200, b"{}"

    def _list(self, query: dict[str, list[str]]) -> tuple[int, bytes]:
        if not self.lists:
            return 404, b""
        first = int(query.get("next_page_token", ["0"])[0])
        entries = [{"modelName": name, "modelUrl": url} for name, (url, _) in self.models.items()]
        page: dict[str, Any] = {"models": entries[first : first + PAGE]}
        if len(entries) > first + PAGE:
            page["nextPageToken"] = str(first + PAGE)
        return 200, json.dumps(page).encode()

    def _invoke(self, name: str, request: Request) -> tuple[int, bytes]:
        if name not in self.models:
            return 404, b"model not found"
        text = self.texts[name]
        self.calls.append(f"invoke {text}")
        if answers := self.invocations.get(text):
            return answers.pop(0)
        return 200, f"{text} says {request.body.decode()}".encode()

    def _unload(self, name: str) -> tuple[int, bytes]:
        self.calls.append(f"DELETE {self.texts.get(name, name)}")
        return (200, b"{}") if self.models.pop(name, None) else (404, b"")


class ModelsWorld(FrontWorld):
    """A front of one multi-model container, with a store that its models come from."""

    def __init__(self, folder: Path, *, capacity: int = 100) -> None:
        super().__init__(folder)
        self.container_ = FakeModels(folder / "c.sock", capacity)
        self.data_dir = folder / "data"
        self.store: FolderStore = store_in(self.data_dir)
        self.changes: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []

    async def put(self, target: str, text: str = "", size: int = 1) -> None:
        """Put a model into the store, whose answers begin with the text."""
        files = {"name": (text or target.partition(".")[0]).encode(), "size": str(size).encode()}
        await self.put_bytes(target, pack(files))

    async def put_bytes(self, target: str, data: bytes) -> None:
        """Put an object into the store."""

        async def body() -> AsyncIterator[bytes]:
            yield data

        with contextlib.suppress(BucketExists):
            await self.store.create_bucket("models", account="1", region="r")
        await self.store.put("models", f"fleet/{target}", body(), Description())

    async def drop(self, target: str) -> None:
        await self.store.delete("models", f"fleet/{target}")

    @property
    def folder_of_models(self) -> Path:
        return self.data_dir / "models" / ".instances" / "i-front"

    async def open(self, **changes: Any) -> None:
        """Start the container and the front."""
        self.changes = changes
        await self.container_.start()
        await self.open_front()
        await self.ping()

    async def open_front(self) -> None:
        """Start the front alone."""
        folder = str(self.folder_of_models)
        values: dict[str, Any] = {
            "prefix": PREFIX,
            "account": "1",
            "folder": folder,
            "seen_at": folder,
            "artifacts": str(self.data_dir / "models"),
            "alone": False,
            "caches": True,
            "most_loads": 2,
            "one_each": False,
            **{key: value for key, value in self.changes.items() if key in ManyModels.__dataclass_fields__},
        }
        front = {key: value for key, value in self.changes.items() if key in FrontSpec.__dataclass_fields__}
        spec = FrontSpec(
            "i-front",
            Mode.SERIAL,
            (FrontContainer("primary", self.container_.address, ManyModels(**values)),),
            **{
                "body_bytes": 1_000_000,
                "buffered_bytes": 2**26,
                "timeout_seconds": 10.0,
                "ping_seconds": 2.0,
                **front,
            },
            settings=Settings(
                data_dir=self.data_dir, run_dir=self.folder / "run", limits=self.changes.get("limits", Limits())
            ).to_message(),
        )
        self.path.unlink(missing_ok=True)
        ours, theirs = socket.socketpair()
        self.front = self.tasks.start("front", serve(theirs, listen_at(self.path), self._stop, self._clock))
        reader, writer = self._node = await asyncio.open_unix_connection(sock=ours)
        writer.write(serve_order(spec))
        assert await asyncio.wait_for(reader.readline(), 10) == b'{"op":"serving"}\n'
        self.tasks.start("hear", self._hear(reader))

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self.messages.append(json.loads(line))

    async def ask(self, target: str, body: bytes = b"x", **headers: str) -> Answer:
        """Invoke a model."""
        return await self.invoke(body, X_Amzn_SageMaker_Target_Model=target, **headers)

    async def close(self) -> None:
        await super().close()
        await self.container_.kill()
        self.store.close()


def measures(answer: Answer) -> dict[str, list[int]]:
    """Give what the front has told with an answer."""
    told: dict[str, list[int]] = {}
    for entry in filter(None, answer.headers.get("x-moorage-measures", "").split(",")):
        name, _, value = entry.partition("=")
        told.setdefault(name, []).append(int(value))
    return told


def fault(answer: Answer) -> tuple[str, dict[str, Any]]:
    """Give what went wrong, and its details."""
    return answer.headers["x-moorage-fault"], json.loads(answer.body)
