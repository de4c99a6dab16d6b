"""Connections into a container's network namespace, for addresses ``dial:PATH`` (``engine.contract.InstanceReport``).

Who serves PATH (``engine.dial``) hands each caller a TCP socket that was made inside the namespace, and the port. The
caller connects it to the namespace's own loopback. So nobody waits for another's connection, and what a caller is
refused with is what the container refuses with.
"""

import asyncio
import socket

LOOPBACK = "127.0.0.1"
_PORT_BYTES = 16


async def connect_through(path: str) -> socket.socket:
    """Connect to the container that PATH leads to; the socket does not block.

    Raises OSError: what connecting to the container gave, or that nobody serves the path any more. Waits for as long
    as connecting takes: whoever calls bounds the time.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as call:
        call.setblocking(False)
        call.connect(path)  # a Unix socket's connect never waits: it is taken, refused, or the queue is full
        await _readable(loop, call)
        message, descriptors, _flags, _address = socket.recv_fds(call, _PORT_BYTES, 1)
    if not descriptors:
        raise ConnectionRefusedError(f"no connection was handed out at {path}")
    connection = socket.socket(fileno=descriptors[0])
    try:
        connection.setblocking(False)
        await loop.sock_connect(connection, (LOOPBACK, int(message)))
    except BaseException:
        connection.close()
        raise
    return connection


async def _readable(loop: asyncio.AbstractEventLoop, call: socket.socket) -> None:
    came = loop.create_future()
    loop.add_reader(call, _note, came)
    try:
        await came
    finally:
        loop.remove_reader(call)


def _note(came: "asyncio.Future[None]") -> None:
    if not came.done():
        came.set_result(None)
