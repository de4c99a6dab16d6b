"""The programs from Debian that load and are compared with: wrk and nginx."""

import os
import shutil
import subprocess
import sys

_PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux"}


def find(program: str) -> str:
    """Give the path of a program; /usr/sbin is looked at too, which an ordinary user's PATH may lack."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(program)
    return found


def have_tools() -> None:
    """Have all programs: as root on Debian they are installed, which is said; otherwise the run ends with words."""
    if not (missing := _missing()):
        return
    packages = " ".join(_PACKAGES[program] for program in missing)
    if os.getuid() == 0 and shutil.which("apt-get"):
        print(f"installing what is missing: apt-get install {packages}", file=sys.stderr)
        # Run level 1: the package of nginx starts no server.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in ("update -q", f"install -y -q --no-install-recommends {packages}"):
            subprocess.run(["apt-get", *command.split()], env=environment, stdout=subprocess.DEVNULL, check=False)
    if missing := _missing():
        packages = " ".join(_PACKAGES[program] for program in missing)
        sys.exit(f"This benchmark needs {', '.join(missing)}. On Debian and Ubuntu: apt-get install {packages}")


def _missing() -> list[str]:
    missing = []
    for program in _PACKAGES:
        try:
            find(program)
        except FileNotFoundError:
            missing.append(program)
    return missing
