"""The environments of what Moorage is compared with: made on demand, kept in the user's cache folder."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measures import NotMeasured
from moorage.base.settings import cache_dir

_INSTALL_SECONDS = 900.0


def have_environment(name: str, packages: Sequence[str]) -> Path:
    """Give the folder of a virtual environment with these packages; raises NotMeasured when it cannot be made."""
    folder = cache_dir() / "bench" / name
    stamp, wanted = folder / "installed", "\n".join([sys.version, *packages])
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    print(f"installing {', '.join(packages)} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "install.log"
    with log.open("w") as output:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input", *packages],
        ):
            try:
                subprocess.run(command, stdout=output, stderr=output, check=True, timeout=_INSTALL_SECONDS)
            except (subprocess.SubprocessError, OSError) as fault:
                raise NotMeasured(f"{', '.join(packages)} could not be installed, see {log}") from fault
    stamp.write_text(wanted)
    return folder


def version(folder: Path, package: str) -> str:
    """Give the version of an installed package."""
    found = next(folder.glob(f"lib/python*/site-packages/{package.replace('-', '_')}-*.dist-info"), None)
    return found.name.removesuffix(".dist-info").rpartition("-")[2] if found else "unknown version"
