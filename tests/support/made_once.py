"""What tests need and a machine has once: made in the user's cache folder by whichever test comes first.

What cannot be made on a machine is skipped with the reason; with ``CI=true`` it is a failure.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.product import wait_until

BUILD_SECONDS = 900
"""For one environment. The largest took a minute on two busy cores."""


class CannotMake(Exception):
    """The environment of a client cannot be made here; the text says why."""


def cache_folder(name: str) -> Path:
    """Give a folder of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage" / name


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other test processes from making the same folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:

        def taken() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        wait_until(taken, within=BUILD_SECONDS, what=f"nobody else makes {folder}")
        yield


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Give the folder, whole: what a killed run has left is made anew."""
    whole = folder / ".whole"
    if not whole.exists():
        with _alone(folder):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                whole.touch()
    return folder


def run(*command: str | Path, cwd: Path | None = None, within: float = BUILD_SECONDS) -> str:
    """Run what makes an environment; raises CannotMake with its last words."""
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise CannotMake(str(fault)) from fault
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise CannotMake(f"{Path(command[0]).name} {command[1]} ended with {done.returncode}: {said}")
    return done.stdout


def or_skip(make: Callable[[], Path], what: str) -> Path:
    """Give what can be made; skip the test that wants it where it cannot, or fail with ``CI=true``."""
    try:
        return make()
    except CannotMake as fault:
        reason = f"{what} cannot be had here: {fault}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
