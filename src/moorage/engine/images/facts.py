"""Prints as JSON what a Python is and has. Run as a script by that Python, which may be older than any that works here.

Arguments: names of modules to look for; none is imported. What ``.pth`` files of packages print comes before.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Print what this Python is, on one line."""
    facts: dict = {"version": list(sys.version_info[:3]), "implementation": sys.implementation.name}  # type: ignore[type-arg]  # not subscriptable in Python 3.8
    if sys.version_info >= (3, 8):  # noqa: UP036 - what an older one says is enough
        facts.update(_of_one_that_may_serve(sys.argv[1:]))
    print("\n" + json.dumps(facts))  # noqa: T201 - its answer


def _of_one_that_may_serve(modules: "list[str]") -> "dict[str, object]":
    import importlib.metadata  # noqa: PLC0415 - not in Python 3.7
    import importlib.util  # noqa: PLC0415
    import sysconfig  # noqa: PLC0415

    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            packages.setdefault(name.lower().replace("_", "-").replace(".", "-"), distribution.version)
    return {
        "library": f"python{sys.version_info[0]}.{sys.version_info[1]}{'t' if 't' in sys.abiflags else ''}",
        "executables": [sys.executable, getattr(sys, "_base_executable", None) or sys.executable],
        "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],
        "own": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")],
        "path": [folder for folder in sys.path if Path(folder).is_dir()],
        "modules": [name for name in modules if importlib.util.find_spec(name) is not None],
        "packages": packages,
    }


if __name__ == "__main__":
    main()
