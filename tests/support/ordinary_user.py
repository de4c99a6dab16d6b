"""Running tests and programs once more as a user who is not root."""

import atexit
import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ORDINARY_UID = 54_321

TESTS = Path(__file__).parents[1]


def as_ordinary_user(*needed: Path) -> list[str]:
    """Make the beginning of a command that runs as an ordinary user who can reach the given folders.

    They may lie below folders that are root's alone: those are covered, in a mount namespace of its own.
    """
    closed = {next(iter(parents)) for path in needed if (parents := _closed_parents(path))}
    words = ["bwrap", "--dev-bind", "/", "/"]
    for folder in closed:
        words += ["--perms", "0755", "--tmpfs", str(folder)]
    made: set[Path] = set()
    for path in sorted(needed):
        for parent in reversed(path.parents):
            if parent not in made and any(parent.is_relative_to(folder) and parent != folder for folder in closed):
                made.add(parent)
                words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--bind", str(path), str(path)]
    words += _tun_for_all()
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
        words += ["--cap-add", capability]
    identity = ("--reuid", str(ORDINARY_UID), "--regid", str(ORDINARY_UID), "--clear-groups")
    return [*words, "setpriv", *identity, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


@functools.cache
def _tun_for_all() -> list[str]:
    """Let everybody open ``/dev/net/tun``, as desktops do and many servers do not; nothing where that cannot be."""
    device = Path("/dev/net/tun")
    folder = tempfile.mkdtemp(prefix="moorage-tun-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    node = Path(folder, "tun")
    try:
        os.mknod(node, stat.S_IFCHR, device.stat().st_rdev)
    except OSError:
        return []
    node.chmod(0o666)
    return ["--dev-bind", str(node), str(device)]


def run_again_as_ordinary_user(file: str, home: Path, *needed: Path, files: Mapping[Path, Path] | None = None) -> str:
    """Run a file of tests as an ordinary user whose home is a new folder; fails when one of them fails, gives the rest.

    ``files``: folders, and where that user gets a copy of them.
    """
    home.mkdir()
    for source, target in (files or {}).items():
        shutil.copytree(source, target)
    subprocess.run(["chown", "--recursive", str(ORDINARY_UID), str(home)], check=True)
    command = [
        *as_ordinary_user(TESTS.parent, Path(sys.prefix), Path(sys.base_prefix), home, *needed),
        *("env", f"HOME={home}", sys.executable, "-m", "pytest", "-q"),
        *("-p", "no:cacheprovider", "-n", "0", f"--basetemp={home}/t", file),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def _closed_parents(path: Path) -> list[Path]:
    return [parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]
