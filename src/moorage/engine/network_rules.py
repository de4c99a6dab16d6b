"""Run inside a network namespace (``network.py``): refuses what goes to link-local addresses.

Rules and not routes, because a rule is asked before the route that an interface brings for its own link. The answer is
ENETUNREACH, at once. Only the standard library: this runs by path, without the package.
"""

import socket
import struct
import sys
from pathlib import Path

_REFUSED = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")
"""The link; the last one is what a cloud's metadata service answers at by IPv6."""

_NEW_RULE, _REQUEST, _ACKNOWLEDGE, _CREATE = 32, 0x1, 0x4, 0x400
_DESTINATION, _PRIORITY, _ANSWER_UNREACHABLE = 1, 6, 7
_FIRST_PRIORITY = 100
_HEADER = "=IHHII"
_ERROR = 2


def main() -> None:
    """Set the rules; exits with a reason when one cannot be set."""
    try:
        refuse_link_local()
    except OSError as fault:
        sys.exit(str(fault))


def refuse_link_local() -> None:
    """Set the rules; raises OSError when one cannot be set."""
    for network in _REFUSED:
        if ":" in network and not Path("/proc/net/if_inet6").exists():
            continue
        try:
            _refuse(network)
        except OSError as fault:
            raise OSError(fault.errno, f"{network} could not be refused: {fault.strerror}") from fault


def _refuse(network: str) -> None:
    address, _, length = network.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    rule = struct.pack("=BBBBBBBBI", family, int(length), 0, 0, 0, 0, 0, _ANSWER_UNREACHABLE, 0)
    body = rule + _attribute(_DESTINATION, packed) + _attribute(_PRIORITY, struct.pack("=I", _FIRST_PRIORITY))
    flags = _REQUEST | _ACKNOWLEDGE | _CREATE
    message = struct.pack(_HEADER, struct.calcsize(_HEADER) + len(body), _NEW_RULE, flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(message)
        answer = kernel.recv(4096)
    _length, kind, *_rest = struct.unpack_from(_HEADER, answer)
    (error,) = struct.unpack_from("=i", answer, struct.calcsize(_HEADER))
    if kind == _ERROR and error:
        raise OSError(-error, "the rule was refused by the kernel")


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


if __name__ == "__main__":
    main()
