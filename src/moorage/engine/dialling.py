"""Makes TCP sockets in a container's network namespace, one for each who calls at a Unix socket.

A socket stays in the namespace in which it was made, whoever uses it. It is handed out unconnected, with the port:
connecting is the caller's (``base.dial``). Runs in a thread of root's, which enters the namespace for ever; or, for an
ordinary user, as a program of its own (standard library only), since only a process of one thread may enter the user
namespace that owns the network, which comes before the network itself.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import sys

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_NS_GET_USERNS = 0xB701

READY = b"ready\n"
"""What the program says once it serves; anything else is why it does not."""


def enter_network(namespace: int) -> None:
    """Take this thread into a network namespace, given by a descriptor; raises OSError."""
    _setns(namespace, _CLONE_NEWNET)


def enter_owner(namespace: int) -> None:
    """Take this process, which has one thread, into the user namespace that owns a namespace; raises OSError."""
    owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
    try:
        _setns(owner, _CLONE_NEWUSER)
    finally:
        os.close(owner)


def serve(listener: socket.socket, port: int, until_closed: int | None = None) -> None:
    """Hand out sockets of the namespace that this thread is in until the listener is shut down.

    ``until_closed``: a descriptor whose other end closes when it is time to end.
    """
    listener.setblocking(False)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if until_closed is not None:
        poll.register(until_closed, select.POLLIN)
    while True:
        for descriptor, events in poll.poll():
            if descriptor == until_closed or events & ~select.POLLIN:
                return
        _hand_out(listener, port)


def _hand_out(listener: socket.socket, port: int) -> None:
    # A caller who has gone again, or descriptors that are all in use now: the next caller may have more luck.
    with contextlib.suppress(OSError):
        call, _ = listener.accept()
        with call, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            socket.send_fds(call, [str(port).encode()], [connection.fileno()])


def _setns(namespace: int, kind: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(listener: int, namespace: int, port: int) -> None:
    """Serve as a program, until standard input is closed: so it ends with whoever started it."""
    try:
        enter_owner(namespace)
        enter_network(namespace)
    except OSError as fault:
        os.write(1, f"{fault.strerror}\n".encode())
        return
    os.close(namespace)
    os.write(1, READY)
    serve(socket.socket(fileno=listener), port, until_closed=0)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
