"""What the workers of an instance share: who of them is idle, and a box for each, into which others put connections.

All workers accept at the same listener. But a connection stays with who has accepted it, and a gateway keeps its
connections: so one worker could have all that is asked, and the others nothing. Therefore a worker that is behind hands
a connection to an idle one, with the request that waits (``SCM_RIGHTS``; a large one lies in a file). It
stays there: after a few of these the connections are spread as the work is. When nobody is idle, the foreman is
called for one worker more.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import socket
import tempfile

from .wire import Request, RequestReader, bytes_of

MESSAGE_BYTES = 64 * 1024
"""Larger requests lie in a file."""

_IDLE, _BUSY = 1, 0
_IN_A_FILE = b"F"
_INT_BYTES = array.array("i").itemsize


class Crew:
    """Made before the first worker is forked, so that all have it."""

    def __init__(self, most: int) -> None:
        self.most = most
        """Workers at a time, at most."""
        self._marks = mmap.mmap(-1, most + 2)
        """Shared by all: of each worker whether it is idle; whether there are as many as may be; whether one served."""
        self._boxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(most)]
        for box in self._boxes:
            for end in box:
                end.setblocking(False)
        self.calls, self._calling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """``calls`` can be read when a worker wants one more beside it."""

    def seat(self, number: int) -> Seat:
        """Give what a worker needs; a replaced worker's seat goes to the next."""
        return Seat(self, number)

    def find_idle(self) -> int | None:
        """Find an idle worker, which is taken to be busy from now on."""
        number = self._marks.find(bytes([_IDLE]), 0, self.most)
        if number < 0:
            return None
        self._marks[number] = _BUSY
        return number

    def mark(self, number: int, *, idle: bool) -> None:
        """Note whether a worker waits for work."""
        self._marks[number] = _IDLE if idle else _BUSY

    def mark_full(self, *, full: bool) -> None:
        """Note whether there is any use in calling for one more."""
        self._marks[self.most] = full

    @property
    def full(self) -> bool:
        """There are as many workers as there may be."""
        return bool(self._marks[self.most])

    def mark_served(self) -> None:
        """Note that a worker has come so far as to serve."""
        self._marks[self.most + 1] = 1

    @property
    def served(self) -> bool:
        """At least one worker has come so far."""
        return bool(self._marks[self.most + 1])

    def call(self) -> None:
        """Want one more worker."""
        if not self.full:
            with contextlib.suppress(BlockingIOError):  # there are calls enough
                os.write(self._calling, b"\0")

    def put(self, number: int, connected: socket.socket, data: bytes) -> bool:
        """Put a connection into a worker's box, with what has been read of it; says whether that was possible."""
        try:
            if len(data) <= MESSAGE_BYTES:
                _send(self._boxes[number][0], data, connected.fileno())
                return True
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.flush()
                _send(self._boxes[number][0], _IN_A_FILE, connected.fileno(), file.fileno())
        except OSError:  # the box is full, or there are too many descriptors
            return False
        return True

    def box(self, number: int) -> socket.socket:
        """Give the end that a worker reads."""
        return self._boxes[number][1]


class Seat:
    """A worker's place in the crew."""

    def __init__(self, crew: Crew, number: int) -> None:
        self._crew = crew
        self._number = number
        self.box = crew.box(number)
        """Can be read when a connection has been handed to this worker."""

    def begin(self) -> None:
        """Say that this worker serves from now on."""
        self._crew.mark_served()

    def rest(self) -> None:
        """Say that this worker waits for work."""
        self._crew.mark(self._number, idle=True)

    def work(self) -> None:
        """Say that it does not wait any more."""
        self._crew.mark(self._number, idle=False)

    def hand_over(self, connected: socket.socket, request: Request, reader: RequestReader) -> bool:
        """Hand a connection and its request to an idle worker; says whether it was. If none is, one is called."""
        number = self._crew.find_idle()
        if number is None:
            self._crew.call()
            return False
        if self._crew.put(number, connected, bytes_of(request) + reader.peek_all()):
            return True
        self._crew.mark(number, idle=True)
        return False

    def take(self) -> tuple[socket.socket, bytes] | None:
        """Take a connection out of the box, and what has been read of it."""
        try:
            data, ancillary, _flags, _address = self.box.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(2 * _INT_BYTES))
        except OSError:  # it is empty
            return None
        descriptors = array.array("i")
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(rights[: len(rights) - len(rights) % _INT_BYTES])
        if not descriptors:
            return None
        if len(descriptors) > 1:
            with os.fdopen(descriptors[1], "rb") as file:
                file.seek(0)  # the one who has written it has left it at its end
                data = file.read()
        return socket.socket(fileno=descriptors[0]), data


def _send(box: socket.socket, data: bytes, *descriptors: int) -> None:
    box.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
