"""``scripts/demo`` as a newcomer runs it: an ordinary user, a clone, a bare Python, an empty home."""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.product import wait_until

NAME = "moorage-tester"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    if os.getuid() != 0:
        pytest.skip("only root can make another user; the other tests show what this one can do")
    if shutil.which("useradd") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("this machine has no useradd, or no Python of the system's own")
    _remove_user()  # of a run that was killed
    subprocess.run(["useradd", "--create-home", NAME], check=True)
    yield pwd.getpwnam(NAME)
    _remove_user()


def _remove_user() -> None:
    subprocess.run(["pkill", "--signal", "KILL", "--uid", NAME], check=False, capture_output=True)
    subprocess.run(["userdel", "--force", "--remove", NAME], check=False, capture_output=True)


@pytest.mark.slow  # installs Moorage and builds an environment from nothing
@pytest.mark.timeout(600)
def test_an_ordinary_user_sees_the_demo_from_a_bare_clone(ordinary_user: pwd.struct_passwd) -> None:
    home = Path(ordinary_user.pw_dir)
    clone = home / "moorage"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in files.rstrip("\0").split("\0"):
        if (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, clone / name)
    subprocess.run(["chown", "-R", f"{NAME}:", str(clone)], check=True)
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}

    said = subprocess.run(
        ["setpriv", f"--reuid={NAME}", f"--regid={NAME}", "--init-groups", "scripts/demo"],
        cwd=clone,
        env={**pip, "HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHON": "/usr/bin/python3", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stdout + said.stderr
    for weights in ("66.7%", "33.3%", "25.0%", "75.0%"):
        assert weights in said.stdout
    accuracies = [float(found) for found in re.findall(r"([0-9.]+)%\s+█", said.stdout)]
    assert len(accuracies) == 4
    assert min(accuracies) > 85
    assert "nothing is left running" in said.stdout
    wait_until(lambda: not processes_of(ordinary_user.pw_uid), within=10, what="nothing of the user runs")


def processes_of(uid: int) -> list[str]:
    """Give the process ids of a user."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append(entry.name)
    return found
