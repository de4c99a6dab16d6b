"""Where the bindings of sticky sessions are kept.

Several gateways share one port, and each may be killed and started again, so bindings are small files that all of
them see: ``data_dir/sessions/<hash of the endpoint>/<hash of the session id>``. Ids come from clients and containers
and are never part of a path. A file is there whole before the client hears of its session, and survives the death of
every process; it is not forced to the disk, so a machine that loses power may lose sessions, as it does the instances
that held their state. To read one takes some microseconds of the page cache.

The file's time of change is the time at which the session expires, so that a sweep, which every gateway makes in a
thread every ``SWEEP_SECONDS``, has to open none. Between two sweeps a gateway counts only what it opens and closes
itself: with several gateways an endpoint can for so long have more sessions than ``sessions_per_endpoint``.

What is promised to clients is the table in ``routing.sessions``; ``session_stages`` keeps it.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from hashlib import blake2b
from pathlib import Path

from moorage.base.clock import Clock
from moorage.routing.sessions import Binding
from moorage.routing.snapshot import Endpoint

log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0

UNFINISHED_SECONDS = 60.0
"""After which a file that was never given its name belongs to a gateway that was killed."""

_FILE_BYTES = 4096
_ATTEMPTS = 3


class SessionTaken(Exception):
    """The id is bound to another instance already."""


class Sessions:
    """The bindings of all endpoints; of one event loop, but for ``sweep``."""

    def __init__(self, folder: Path, *, per_endpoint: int, session_seconds: float) -> None:
        """Keep bindings in a folder, which is made when it is needed.

        ``per_endpoint`` is the most sessions of an endpoint, ``session_seconds`` the life of one whose container
        does not say when it expires.
        """
        self._folder = folder
        self._per_endpoint = per_endpoint
        self.session_seconds = session_seconds
        self._counts: dict[str, int] = {}
        self.refused = 0
        """Sessions that were not opened because their endpoint had too many."""

    def __repr__(self) -> str:
        return f"<Sessions: {sum(self._counts.values())} of {len(self._counts)} endpoints, {self.refused} refused>"

    def has_room(self, endpoint: Endpoint) -> bool:
        """Say whether an endpoint may have another session beside those that are open; a no is counted."""
        if self._counts.get(_folder_name(endpoint), 0) < self._per_endpoint:
            return True
        self.refused += 1
        return False

    def find(self, endpoint: Endpoint, session_id: str, now: float) -> Binding | None:
        """Give the binding of a session that is open."""
        path = self._path(endpoint, session_id)
        content = _read(path)
        if content is None:
            return None
        binding = _binding_of(content)
        if binding is None or binding.expires <= now:
            self._remove(Path(path))
            return None
        return binding

    def open(self, endpoint: Endpoint, binding: Binding, now: float) -> None:
        """Keep a binding; raises SessionTaken, and OSError when it cannot be kept.

        One that has expired is not kept; a session that the same instance opens again replaces itself.
        """
        if binding.expires <= now:
            return
        path = Path(self._path(endpoint, binding.session_id))
        for _ in range(_ATTEMPTS):
            try:
                known = self.find(endpoint, binding.session_id, now)
                if known is not None and known.instance_id != binding.instance_id:
                    raise SessionTaken
                _write(path, binding, replace=known is not None)
            except FileNotFoundError:  # there was no folder yet, or a sweep has taken it away
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except FileExistsError:  # another gateway was faster
                continue
            else:
                if known is None:
                    self._counts[path.parent.name] = self._counts.get(path.parent.name, 0) + 1
                return
        raise OSError(f"{path} changes while it is written")

    def close(self, endpoint: Endpoint, session_id: str) -> None:
        """Forget a session; one that is not there is forgotten already."""
        self._remove(Path(self._path(endpoint, session_id)))

    def sweep(self, now: float) -> None:
        """Remove what has expired, and count what is left. May run in a thread."""
        counts: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as folders:
            for folder in folders:
                counts[folder.name] = _sweep_folder(folder.path, now)
                if not counts[folder.name]:
                    del counts[folder.name]
                    with contextlib.suppress(OSError):  # somebody has just opened a session
                        Path(folder.path).rmdir()
        self._counts = counts

    async def keep_swept(self, clock: Clock) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.sweep, clock.now())
            except OSError as fault:
                log.warning("sessions could not be swept: %s", fault)
            await clock.sleep_until(clock.monotonic() + SWEEP_SECONDS)

    def _path(self, endpoint: Endpoint, session_id: str) -> str:
        return f"{self._folder}/{_folder_name(endpoint)}/{_hash(session_id)}"

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            self._counts[path.parent.name] = max(0, self._counts.get(path.parent.name, 0) - 1)


def _folder_name(endpoint: Endpoint) -> str:
    return _hash(f"{endpoint.account}/{endpoint.region}/{endpoint.name}")


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, _FILE_BYTES)
    finally:
        os.close(descriptor)


def _binding_of(content: bytes) -> Binding | None:
    try:
        return Binding.from_bytes(content)
    except (ValueError, TypeError):  # a machine that lost power may leave a file without content
        return None


def _write(path: Path, binding: Binding, *, replace: bool) -> None:
    """Write a binding whole; FileExistsError when it is there and not to be replaced."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    content = binding.to_bytes()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            written = os.write(descriptor, content)
            os.utime(descriptor, (binding.expires, binding.expires))
        finally:
            os.close(descriptor)
        if written < len(content):
            raise OSError(errno.ENOSPC, "the file is not whole")
        if replace:
            unfinished.rename(path)
        else:
            os.link(unfinished, path)  # unlike a rename it fails when the name is taken
    finally:
        unfinished.unlink(missing_ok=True)


def _sweep_folder(folder: str, now: float) -> int:
    left = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another gateway sweeps too
                changed, unfinished = entry.stat(follow_symlinks=False).st_mtime, entry.name.startswith(".")
                if changed <= (now - UNFINISHED_SECONDS if unfinished else now):
                    Path(entry.path).unlink(missing_ok=True)
                elif not unfinished:
                    left += 1
    return left
