"""The pure floor: no sockets, no processes, no clock. A test that needs one of them belongs to another floor."""

import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from moorage.base.clock import SystemClock


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("The pure floor does no input or output and reads no clock: move this test to tests/room.")


@pytest.fixture(autouse=True, scope="module")
def pure() -> Iterator[None]:
    """Forbid what is not pure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _refuse)
        patch.setattr(socket.socket, "bind", _refuse)
        patch.setattr(subprocess, "Popen", _refuse)
        patch.setattr(time, "sleep", _refuse)
        # Not time.time: the oracles of this floor (botocore, hypothesis) may read the clock, our code may not.
        patch.setattr(SystemClock, "now", _refuse)
        patch.setattr(SystemClock, "monotonic", _refuse)
        yield
