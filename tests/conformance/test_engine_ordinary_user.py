"""All that the other files of this floor say of engines, once more as an ordinary user."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.machine import needs_root, needs_sandbox

ORDINARY_UID = 54_321

_TUN = (10, 200)
"""Device numbers of ``/dev/net/tun``, which desktops let everybody open and servers often do not."""


@pytest.mark.slow  # runs the files beside this one once more
@pytest.mark.timeout(300)
@needs_root
@needs_sandbox
def test_all_this_holds_for_an_ordinary_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, ORDINARY_UID, ORDINARY_UID)
    tests = Path(__file__).parents[1]
    files = sorted(str(path) for path in Path(__file__).parent.glob("test_engine*.py") if path != Path(__file__))
    command = [
        *as_ordinary_user(tests.parent, Path(sys.prefix), Path(sys.base_prefix), home, tun=_tun(tmp_path)),
        *("env", f"HOME={home}", sys.executable, "-m", "pytest", "-q"),
        *("-p", "no:cacheprovider", "-n", "0", f"--basetemp={home}/t", *files),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tests.parent)
    assert said.returncode == 0, said.stdout + said.stderr


def _tun(folder: Path) -> list[str]:
    """Give the arguments that let everybody open the device; none where it cannot be made."""
    node = folder / "tun"
    try:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(*_TUN))
    except OSError:
        return []
    node.chmod(0o666)
    return ["--dev-bind", str(node), "/dev/net/tun"] if Path("/dev/net/tun").exists() else []


def as_ordinary_user(*needed: Path, tun: list[str]) -> list[str]:
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
    words += tun
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
        words += ["--cap-add", capability]
    identity = ("--reuid", str(ORDINARY_UID), "--regid", str(ORDINARY_UID), "--clear-groups")
    return [*words, "setpriv", *identity, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


def _closed_parents(path: Path) -> list[Path]:
    return [parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]
