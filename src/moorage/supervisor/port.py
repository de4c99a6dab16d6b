"""The public port: opening it, and a clear sentence when it cannot be had."""

import errno
import socket

from moorage.base.ports import who_listens

_BACKLOG = 4096


class PortUnavailable(Exception):
    """The address cannot be listened on; the text is for people."""


def open_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Listen on an address with so many sockets, among which the kernel deals out the connections.

    Port 0 lets the system choose. Raises PortUnavailable. The first socket takes the port for itself, as if it were the
    only one, and is opened to others of this user only when it listens (SO_REUSEPORT, socket(7)): whoever comes second
    finds the port in use, and is not let in among us. A connection waits in the queue of the socket that it was dealt
    to, so each gateway has one, and the supervisor keeps it open from one life of the gateway to the next.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as fault:
        raise PortUnavailable(f"The host {host!r} is not known: {fault.strerror}.") from fault
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, len(listeners) > 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            address = listener.getsockname()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, count > 1)
    except OSError as fault:
        for listener in listeners:
            listener.close()
        raise PortUnavailable(_reason(host, port, fault)) from fault
    return listeners


def _reason(host: str, port: int, fault: OSError) -> str:
    if fault.errno == errno.EADDRINUSE:
        holder = who_listens(port)
        used = f"Port {port} is in use" + (f" by process {holder[0]} ({holder[1]})" if holder else "") + "."
        return f"{used} Choose another one with --port, or let the system choose with --port 0."
    if fault.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has. Choose one above 1023 with --port."
    if fault.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine. Choose one with --host (127.0.0.1 is the default)."
    return f"Cannot listen on {host}:{port}: {fault.strerror}."


def reachable(host: str) -> str:
    """Give the name by which clients on this machine reach an address that is listened on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def url_of(host: str, port: int, *, tls: bool) -> str:
    """Give the URL by which clients on this machine reach the address."""
    name = f"[{reachable(host)}]" if ":" in reachable(host) else reachable(host)
    return f"{'https' if tls else 'http'}://{name}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Say whether only this machine can reach a listening socket."""
    address = str(listener.getsockname()[0])
    return address.startswith("127.") or address == "::1"
