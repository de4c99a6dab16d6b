"""``moorage exec``: a shell, or a command, in a running instance."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from moorage.cli.relay import Flow, hand_on, hand_on_the_rest
from moorage.cli.server import data_dir_option, need_server

_MOST_PARTS = 4
_ANSWER_BYTES = 65_536
_STREAMS = (0, 1, 2)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("what", metavar="ENDPOINT[/VARIANT[/INSTANCE[/CONTAINER]]]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@data_dir_option
def exec(what: str, command: tuple[str, ...], data_dir: Path | None) -> None:  # noqa: A001 - what users type
    """Open a shell in an instance, or run a COMMAND there.

    Only where the variant has EnableSSMAccess. Without INSTANCE it is one of those that are ready, without
    CONTAINER its first.
    """
    parts = what.split("/")
    if len(parts) > _MOST_PARTS or not all(parts):
        raise click.UsageError(f"{what!r} is not of the form ENDPOINT[/VARIANT[/INSTANCE[/CONTAINER]]]")
    endpoint, variant, instance, container = (*parts, None, None, None)[:_MOST_PARTS]
    server = need_server(data_dir)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    request = {
        "endpoint": endpoint,
        "variant": variant,
        "instance": instance,
        "container": container,
        "command": command,
        "terminal": os.environ.get("TERM", "xterm") if at_terminal else None,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as node:
        try:
            node.connect(str(server.run_dir / "shell.sock"))
        except OSError as fault:
            raise click.ClickException(f"The node agent does not answer: {fault}") from fault
        sys.exit(_run(node, request))


def _run(node: socket.socket, request: dict[str, Any]) -> int:
    """Have the command run; gives its exit code."""
    with contextlib.ExitStack() as ours:
        lent, flows = _lend_streams(ours) if request["terminal"] is None else (list(_STREAMS), [])
        socket.send_fds(node, [json.dumps(request).encode() + b"\n"], lent)
        for descriptor in set(lent) - set(_STREAMS):
            os.close(descriptor)
        line, descriptors, _flags, _address = socket.recv_fds(node, _ANSWER_BYTES, 1)
        answers = _Answers(node, line)
        if "error" in (first := answers.next()):
            raise click.ClickException(first["error"])
        if descriptors:
            with os.fdopen(descriptors[0], "r+b", buffering=0) as terminal:
                _join(terminal.fileno())
        elif flows:
            if not answers.has_next:
                hand_on(flows, bell=node.fileno())
            code = int(answers.next().get("exit", 1))
            hand_on_the_rest([flow for flow in flows if flow.lent])
            return code
        return int(answers.next().get("exit", 1))


def _lend_streams(ours: contextlib.ExitStack) -> tuple[list[int], list[Flow]]:
    """Give what the command is to have for standard streams: never the user's terminal.

    Whoever is in the instance can take hold of what another process there has open, keep it when that has ended, and
    read what is typed next, outside. So in place of a terminal it has a pipe, and here is the other end.
    """
    lent, flows = [], []
    for stream in _STREAMS:
        if not os.isatty(stream):
            lent.append(stream)
        elif stream == 0 and _is_in_background():  # where reading would stop this process
            lent.append(os.open(os.devnull, os.O_RDONLY))
        else:
            reader, writer = os.pipe()
            lent.append(reader if stream == 0 else writer)
            flows.append(Flow(0, writer, lent=False) if stream == 0 else Flow(reader, stream))
            if stream == 0:
                os.set_blocking(writer, False)
            else:
                ours.callback(os.close, reader)
    return lent, flows


def _is_in_background() -> bool:
    with contextlib.suppress(OSError):  # it is another session's terminal, from which anybody may read
        return os.tcgetpgrp(0) != os.getpgrp()
    return False


class _Answers:
    """The lines that the node agent says."""

    def __init__(self, node: socket.socket, begun: bytes) -> None:
        self._node = node
        self._rest = begun

    @property
    def has_next(self) -> bool:
        """The next one is here already."""
        return b"\n" in self._rest

    def next(self) -> dict[str, Any]:
        """Wait for the next one; raises ClickException when there will be none."""
        while b"\n" not in self._rest:
            piece = self._node.recv(_ANSWER_BYTES)
            if not piece:
                raise click.ClickException("The node agent has gone, and the shell with it.")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _join(terminal: int) -> None:
    """Be the window onto another terminal until nobody has it open any more."""
    own_in, own_out = sys.stdin.fileno(), sys.stdout.fileno()
    os.set_blocking(terminal, False)  # it takes no more while the command reads nothing: what that says goes on
    shown = Flow(terminal, own_out)
    with _raw(own_in), _same_size(own_in, terminal):
        hand_on([Flow(own_in, terminal), shown], last=shown)


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Hand on every key as it is, Ctrl-C too."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _same_size(own: int, other: int) -> Iterator[None]:
    """Keep the other terminal as large as the own one."""

    def follow(*_: object) -> None:
        fcntl.ioctl(other, termios.TIOCSWINSZ, fcntl.ioctl(own, termios.TIOCGWINSZ, b"\0" * 8))

    before = signal.signal(signal.SIGWINCH, follow)
    follow()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
