"""Where the streams of log groups are: names as AWS gives them (data-plane.md section 7.7), and folders.

``data_dir/logs/ACCOUNT/REGION/aws/sagemaker/Endpoints/ENDPOINT/VARIANT/INSTANCE``: one account never sees another's,
and endpoints of the same name in two regions do not mix.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENDPOINTS = "/aws/sagemaker/Endpoints/"
"""What the names of endpoints' log groups begin with."""

CREATED = ".created"
"""File of a group's and a stream's folder that has the time of its making; no variant can have this name."""

_SUFFIX = ".log"
_DIGITS = 15
_GROUPS = "aws/sagemaker/Endpoints/*"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream is."""

    group: Path
    """Folder of its group."""
    stream: str
    """Its name: ``VARIANT/INSTANCE``."""

    @property
    def folder(self) -> Path:
        """Folder of its segments."""
        return self.group / self.stream


def place_of(logs: Path, account: str, region: str, endpoint: str, stream: str) -> Place:
    """Say where a stream of an endpoint is."""
    return Place(logs / account / region / ENDPOINTS.removeprefix("/") / endpoint, stream)


def find_group(logs: Path, account: str, region: str, name: str) -> Path | None:
    """Give the folder of a log group, whatever somebody has for its name; None when there is none."""
    endpoint = name.removeprefix(ENDPOINTS)
    if not (name.startswith(ENDPOINTS) and _is_name(endpoint) and _is_name(region)):
        return None
    folder = place_of(logs, account, region, endpoint, "").group
    return folder if folder.is_dir() else None


def find_stream(group: Path, name: str) -> Path | None:
    """Give the folder of a stream, whatever somebody has for its name; None when there is none."""
    if not all(_is_name(part) for part in name.split("/")):
        return None
    folder = group / name
    return folder if (folder / CREATED).is_file() else None


def _is_name(text: str) -> bool:
    """Say whether a text may be a file's name: those of endpoints, variants, instances and regions may."""
    return _NAME.fullmatch(text) is not None


def groups(logs: Path, account: str, region: str) -> dict[str, Path]:
    """Find the log groups of an account and region: folders by name, in order of the names."""
    found = sorted((logs / account / region).glob(_GROUPS), key=lambda path: path.name)
    return {ENDPOINTS + path.name: path for path in found if path.is_dir()}


def streams(group: Path) -> dict[str, Path]:
    """Find the streams of a group: folders by name, in order of the names."""
    found = {path.parent.relative_to(group).as_posix(): path.parent for path in group.rglob(CREATED)}
    found.pop(".", None)
    return dict(sorted(found.items()))


def all_groups(logs: Path) -> Iterator[Path]:
    """Find the folders of the log groups of all accounts and regions."""
    return (path for path in logs.glob(f"[0-9]*/*/{_GROUPS}") if path.is_dir())


def owner_of(logs: Path, group: Path) -> tuple[str, str]:
    """Give the account and the region of a group's folder."""
    account, region = group.relative_to(logs).parts[:2]
    return account, region


def segment_name(base: int) -> str:
    """Name the segment that begins at a position of its stream."""
    return f"{base:0{_DIGITS}d}{_SUFFIX}"


def segment_base(name: str) -> int | None:
    """Read where a segment begins; None when the file is none."""
    stem = name.removesuffix(_SUFFIX)
    return int(stem) if name.endswith(_SUFFIX) and len(stem) == _DIGITS and stem.isdigit() else None
