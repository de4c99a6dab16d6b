"""Small programs of Moorage's own, which are started in a process of theirs: the standard library and nothing else."""

import fcntl
import functools
import os
import shutil
import sys
from pathlib import Path

_RUN = (
    "import sys\n"
    "sys.path.insert(0, sys.argv.pop(1))\n"
    "from importlib import import_module\n"
    "import_module(sys.argv.pop(1)).run(sys.argv[1:])\n"
)


def program(module: str, *arguments: object) -> list[str]:
    """Make the command that calls ``run(arguments)`` of a module, without site-packages: it starts in 20 ms."""
    source = Path(__file__).parents[2]
    return [sys.executable, "-I", "-S", "-c", _RUN, str(source), module, *(str(argument) for argument in arguments)]


@functools.cache
def sealed_interpreter() -> int:
    """Give a descriptor of a copy of Python's program in memory that nobody can change any more; raises OSError.

    A process that enters an instance can be seen from inside, and its program's file be opened for writing there
    (``/proc/PID/exe``; a script that begins with ``#!/proc/self/exe`` makes it that of the instance's own process):
    as root of a container one could change the machine's Python (CVE-2019-5736). This copy is what is found then.
    """
    copy = os.memfd_create("moorage-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with Path("/proc/self/exe").open("rb") as program_file, open(copy, "wb", closefd=False) as file:
        shutil.copyfileobj(program_file, file, 2**20)
    os.fchmod(copy, 0o555)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy


def library_path() -> str:
    """Say where that copy finds what Python's program finds beside itself."""
    return str(Path(sys.base_prefix, "lib"))
