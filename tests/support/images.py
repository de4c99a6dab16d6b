"""Container images made from what is on this machine: no base image has to be downloaded.

``python_image`` is this machine's Python with the libraries that it needs and a server that does as it is told;
``litserve_image`` is a third party's server as its makers publish it. Layers are made once and kept in the user's
cache folder. An image goes where it is wanted by ``Image.push`` (a registry) or ``Image.archive`` (``docker load``).
"""

import fcntl
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry import Registry

from moorage.base.settings import cache_dir

_LAYOUT = "2"
"""Goes up when layers are made differently."""

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_NOT_NEEDED = frozenset({"site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip"})
_TREES = ("dev", "etc", "proc", "sys", "root", "run", "var/log", "var/cache", "home", "opt/ml/model", "opt/program")
_OF_WHEELS = (
    "libgcc_s.so.1", "libstdc++.so.6", "librt.so.1", "libdl.so.2", "libpthread.so.0", "libutil.so.1", "libresolv.so.2",
    "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
"""Libraries of the system that packages of the index count upon."""
_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n",
    "etc/group": b"root:x:0:\nwww-data:x:33:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}

OBEDIENT = """
import ctypes, os, signal, socket, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

def attempt(what):
    try:
        return repr(eval(what, globals()))
    except BaseException as fault:
        return f"{type(fault).__name__}: {fault}"

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer("" if self.path == "/ping" else "no such page", 200 if self.path == "/ping" else 404)

    def do_POST(self):
        self.answer(attempt(self.rfile.read(int(self.headers["Content-Length"])).decode()))

    def answer(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("serving as", sys.argv[1:], flush=True)
exec(os.environ.get("BEFORE_SERVING", ""))
Server(("0.0.0.0", int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))), Handler).serve_forever()
"""
"""A model server that evaluates what it is sent: the view from inside. ``BEFORE_SERVING`` is run before it listens."""

BINDS = {"com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true"}
"""Labels of an image that listens where it is told: without them it may not be one of several containers."""

LITSERVE = """
import sys
assert sys.argv[1:] == ["serve"], sys.argv

import json
import litserve

class Doubling(litserve.LitAPI):
    def setup(self, device):
        self.factor = json.load(open("/opt/ml/model/factor.json"))

    def decode_request(self, request):
        return request["input"]

    def predict(self, number):
        return number * self.factor

    def encode_response(self, output):
        return {"output": output}

if __name__ == "__main__":
    api = Doubling(api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", healthcheck_path="/ping")
    server.run(port=8080, generate_client_file=False)
"""
"""LitServe as its users write it; only its two paths are those that SageMaker calls."""

LITSERVE_REQUIREMENT = "litserve==0.2.19"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, packed."""

    path: Path
    """``.tar.gz``."""
    digest: str
    """``sha256:...`` of the packed bytes."""
    diff_id: str
    """``sha256:...`` of the tar."""

    @property
    def size(self) -> int:
        """Give the packed size in bytes."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Image:
    """An image that is nowhere yet."""

    layers: tuple[Layer, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    """``Entrypoint``, ``Cmd``, ``Env``, ``WorkingDir``, ``User``, ``Volumes``, ``Labels``."""

    def configured(self, **config: Any) -> "Image":
        """Give it with another configuration: another image of the same files."""
        return replace(self, config={**self.config, **config})

    @property
    def described(self) -> bytes:
        """Give the configuration as the image format has it."""
        return json.dumps(
            {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
                "os": "linux",
                "created": "2026-01-01T00:00:00Z",
                "config": dict(self.config),
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            },
            sort_keys=True,
        ).encode()

    @property
    def manifest(self) -> bytes:
        """Give the manifest that a registry keeps; its hash is the image's digest."""
        kinds = "application/vnd.docker"
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{kinds}.distribution.manifest.v2+json",
                "config": {
                    "mediaType": f"{kinds}.container.image.v1+json",
                    "size": len(self.described),
                    "digest": _digest(self.described),
                },
                "layers": [
                    {"mediaType": f"{kinds}.image.rootfs.diff.tar.gzip", "size": layer.size, "digest": layer.digest}
                    for layer in self.layers
                ],
            }
        ).encode()

    def push(self, registry: Registry, repository: str, tag: str) -> str:
        """Put it into a registry; gives ``sha256:...``, its digest there."""
        for layer in self.layers:
            registry.put_blob(repository, layer.digest, layer.path.read_bytes)
        registry.put_blob(repository, _digest(self.described), lambda: self.described)
        kind = json.loads(self.manifest)["mediaType"]
        registry.put_manifest(repository, tag, self.manifest, kind)
        return _digest(self.manifest)

    def archive(self, path: Path, *tags: str) -> Path:
        """Write it as ``docker save`` does, for ``docker load``."""
        described = self.described
        config_name = f"{hashlib.sha256(described).hexdigest()}.json"
        names = [f"{layer.digest.removeprefix('sha256:')}.tar.gz" for layer in self.layers]
        manifest = json.dumps([{"Config": config_name, "RepoTags": list(tags), "Layers": names}]).encode()
        with tarfile.open(path, "w") as archive:
            for name, layer in zip(names, self.layers, strict=True):
                archive.add(layer.path, name)
            for name, content in ((config_name, described), ("manifest.json", manifest)):
                _add_file(archive, name, content)
        return path


def python_image(program: str = OBEDIENT, **config: Any) -> Image:
    """Make an image of this machine's Python whose ENTRYPOINT runs a program; its CMD is ``train``."""
    code = make_layer({"opt/program/main.py": program.encode()})
    settings = {
        "Entrypoint": ["/usr/local/bin/python3", "-u", "/opt/program/main.py"],
        "Cmd": ["train"],
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "MADE_BY=moorage tests"],
        "WorkingDir": "/opt/program",
    }
    return Image((_python_layer(), code), {**settings, **config})


def litserve_image() -> Image:
    """Make an image with LitServe from the package index; skips the test where it cannot be had."""
    program = make_layer({"opt/program/main.py": LITSERVE.encode()})
    config = {
        "Entrypoint": ["/usr/local/bin/python3", "/opt/program/main.py"],
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=/opt/packages", "PYTHONUNBUFFERED=1"],
        "WorkingDir": "/opt/program",
    }
    return Image((_python_layer(), _packages_layer(LITSERVE_REQUIREMENT), program), config)


def make_layer(files: Mapping[str, bytes], *, executable: bool = False) -> Layer:
    """Make a small layer of files by their names."""

    def fill(archive: tarfile.TarFile) -> None:
        for name, content in files.items():
            _add_file(archive, name, content, mode=0o755 if executable else 0o644)

    key = json.dumps([executable, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}])
    return _layer(key, fill)


def _python_layer() -> Layer:
    """Give the layer of this machine's Python with its libraries and a shell, as ``/usr/local`` and ``/lib``."""
    return _layer(f"python {sys.version} {sys.base_prefix}", _fill_with_python)


def _fill_with_python(archive: tarfile.TarFile) -> None:
    prefix = Path(sys.base_prefix)
    interpreter = prefix / "bin" / f"python{_VERSION}"
    for folder in _TREES:
        _add_folder(archive, folder)
    for folder in ("tmp", "var/tmp"):
        _add_folder(archive, folder, mode=0o1777)
    for name, content in _ACCOUNTS.items():
        _add_file(archive, name, content)
    archive.add(interpreter, f"usr/local/bin/python{_VERSION}")
    for name in ("python3", "python"):
        _add_link(archive, f"usr/local/bin/{name}", f"python{_VERSION}")
    library = prefix / "lib" / f"python{_VERSION}"
    archive.add(library, f"usr/local/lib/python{_VERSION}", filter=_only_needed)
    extensions = sorted((library / "lib-dynload").glob("*.so"))
    shell = Path("/bin/dash")
    archive.add(shell, "bin/sh")
    needed = {library for program in (interpreter, shell, *extensions) for library in _libraries(program)}
    beside = {library.with_name(name) for library in needed for name in _OF_WHEELS}
    for source in sorted(needed | {library for library in beside if library.exists()}):
        archive.add(source.resolve(), str(source).lstrip("/"))


def _only_needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(member.name).parts
    return None if _NOT_NEEDED.intersection(parts) or any(part.startswith("config-") for part in parts) else member


def _libraries(program: Path) -> Iterator[Path]:
    """Name the shared libraries of a program, by the places where its loader looks for them."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    for line in said.splitlines():
        words = line.split()
        path = words[2] if len(words) > 2 and words[1] == "=>" else words[0]
        if path.startswith("/"):
            yield Path(path)


def _packages_layer(requirement: str) -> Layer:
    """Give the layer of a package of the index and all that it needs, at ``/opt/packages``."""

    def fill(archive: tarfile.TarFile) -> None:
        with _scratch(f"pip-{requirement}") as folder:
            installed = subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check",
                 "--only-binary", ":all:", "--target", str(folder), requirement],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            if installed.returncode:
                pytest.skip(f"{requirement} could not be installed: {installed.stderr.strip().splitlines()[-1:]}")
            archive.add(folder, "opt/packages")

    return _layer(f"packages {requirement} {_VERSION}", fill)


def _layer(key: str, fill: Callable[[tarfile.TarFile], None]) -> Layer:
    """Give the layer of a key out of the cache folder, made now if it is not there."""
    name = hashlib.sha256(f"{_LAYOUT} {key}".encode()).hexdigest()[:16]
    folder = _cache()
    path = folder / f"{name}.tar.gz"
    note = folder / f"{name}.json"
    with _locked(folder / f"{name}.lock"):
        if not note.exists():
            unfinished = folder / f"{name}.unfinished"
            with unfinished.open("wb") as file:
                packed, plain = _Hashing(file), hashlib.sha256()
                with (
                    gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=packed, mtime=0) as packer,
                    tarfile.open(fileobj=_Hashing(packer, plain), mode="w|", format=tarfile.GNU_FORMAT) as archive,
                ):
                    fill(archive)
            unfinished.rename(path)
            digests = {"digest": packed.digest, "diff_id": f"sha256:{plain.hexdigest()}"}
            note.write_text(json.dumps(digests), encoding="utf-8")
    return Layer(path, **json.loads(note.read_text(encoding="utf-8")))


class _Hashing(io.RawIOBase):
    """Hashes what goes through it into a file."""

    def __init__(self, file: Any, hashed: Any = None) -> None:
        self._file = file
        self._hashed = hashed or hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hashed.update(data)
        self._file.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        """Give ``sha256:...`` of all that was written."""
        return f"sha256:{self._hashed.hexdigest()}"


def _add_folder(archive: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _cache() -> Path:
    folder = cache_dir() / "test-images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    folder = _cache() / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time in: tests run in several."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
