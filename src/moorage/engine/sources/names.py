"""The files that objects become, by their keys: the rules of the API's model (S3ModelDataSource, CompressionType)."""

from collections.abc import Iterable

from moorage.engine.sources.faults import MOST_DEPTH, SourceRefused, shown

_MOST_NAME_BYTES = 255


def file_of(key: str) -> str:
    """Give the name of the file that a single object becomes; raises SourceRefused."""
    name = key.rpartition("/")[2]
    _check(name, key)
    return name


def paths_of(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Give, by key, the path of the file that each object below a prefix becomes; raises SourceRefused."""
    paths = {key: _path_of(key, prefix) for key in keys}
    files = set(paths.values())
    folders: dict[str, str] = {}
    """What is in them, by an example."""
    for path in files:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders[parent] = path
            parent = parent.rpartition("/")[0]
    for path in sorted(files & folders.keys()):
        raise SourceRefused(
            f"The model data has {shown(prefix + path)} both as an object and as a folder, of "
            f"{shown(prefix + folders[path])}: they cannot both be files."
        )
    return paths


def _path_of(key: str, prefix: str) -> str:
    path = key.removeprefix(prefix)
    if path.count("/") > MOST_DEPTH:
        raise SourceRefused(f"The model data has more than {MOST_DEPTH} folders in each other: {shown(key)}.")
    for name in path.split("/"):
        _check(name, key)
    return path


def _check(name: str, key: str) -> None:
    if not name.strip():
        reason = "an empty name"
        if key.endswith("/"):
            reason += ' (the S3 console makes such an object for each "folder": delete it)'
    elif "\0" in name:
        reason = "a name with a null byte in it"
    elif len(name.encode("utf-8", "surrogatepass")) > _MOST_NAME_BYTES:
        reason = f"a name of more than {_MOST_NAME_BYTES} bytes"
    elif name in {".", ".."}:
        reason = f"the name {name!r}"
    else:
        return
    raise SourceRefused(f"The model data cannot be files: the object {shown(key)} would give one {reason}.")
