"""The public port: opening it, and a clear sentence when it cannot be had."""

import errno
import socket

from moorage.base.ports import who_listens

_BACKLOG = 4096


class PortUnavailable(Exception):
    """The address cannot be listened on; the text is for people."""


def open_listener(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 lets the system choose. Raises PortUnavailable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as fault:
        raise PortUnavailable(f"The host {host!r} is not known: {fault.strerror}.") from fault
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as fault:
        listener.close()
        raise PortUnavailable(_reason(host, port, fault)) from fault
    listener.setblocking(False)
    return listener


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


def url_of(host: str, port: int) -> str:
    """Give the URL by which clients on this machine reach the address."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Say whether only this machine can reach a listening socket."""
    address = str(listener.getsockname()[0])
    return address.startswith("127.") or address == "::1"
