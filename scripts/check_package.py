"""Check what the built wheel and sdist hold: everything that is needed, nothing that is not."""

import sys
import tarfile
import zipfile
from pathlib import Path

NEEDED_IN_WHEEL = {
    "moorage/py.typed",
    "moorage/__main__.py",
    "moorage/cli/main.py",
    "moorage/supervisor/__main__.py",
    "moorage/serving/instance.py",
    "moorage/aws/models/sagemaker.json",
    "moorage/aws/models/sagemaker-runtime.json",
}
NEEDED_IN_SDIST = {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md"}


def main(folder: str) -> None:
    """Check the one wheel and the one sdist of a folder."""
    (wheel,) = Path(folder).glob("*.whl")
    (sdist,) = Path(folder).glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to("src")) for path in Path("src").rglob("*.py")}
    complaints = [f"the wheel lacks {name}" for name in sorted((NEEDED_IN_WHEEL | sources) - in_wheel)]
    complaints += [f"the sdist lacks {name}" for name in sorted(NEEDED_IN_SDIST - in_sdist)]
    strange = {name for name in in_wheel if not name.startswith(("moorage/", "moorage-"))}
    strange |= {name for name in in_wheel | in_sdist if name.endswith((".pyc", ".db", ".log"))}
    complaints += [f"{name} has no business there" for name in sorted(strange)]
    if complaints:
        sys.exit("\n".join(complaints))
    print(
        f"{wheel.name}: {len(in_wheel)} files, {wheel.stat().st_size / 1e6:.2f} MB; {sdist.name}: {len(in_sdist)} files"
    )


if __name__ == "__main__":
    main(sys.argv[1])
