"""Start the warm process of an environment: run as a script by the environment's own Python.

That Python knows nothing of Moorage. This file loads the folder it lies in as the package ``moorage_serving``, so
that nothing else of Moorage, and none of these files under a bare name, can be imported by a model's code.
"""

import importlib.util
import sys
from pathlib import Path

PACKAGE = "moorage_serving"


def load_package(folder: Path) -> None:
    """Make the folder importable as ``moorage_serving``."""
    location = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if location is None or location.loader is None:
        raise ImportError(f"{folder} is not the folder of the model server")
    package = importlib.util.module_from_spec(location)
    sys.modules[PACKAGE] = package
    location.loader.exec_module(package)


if __name__ == "__main__":
    load_package(Path(__file__).parent)
    importlib.import_module(f"{PACKAGE}.zygote").main(sys.argv[1:])
