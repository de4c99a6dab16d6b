"""All that the other files of this floor say of engines, once more as an ordinary user."""

from pathlib import Path

import pytest
from tests.support.machine import needs_root, needs_sandbox
from tests.support.ordinary_user import run_again_as_ordinary_user

FILES = [
    *sorted(path.name for path in Path(__file__).parent.glob("test_engine*.py") if path != Path(__file__)),
    "test_shells.py",
    "test_spares.py",
]


@pytest.mark.slow  # runs each file beside this one once more
@pytest.mark.timeout(300)
@needs_root
@needs_sandbox
@pytest.mark.parametrize("name", FILES)
def test_all_this_holds_for_an_ordinary_user(name: str, tmp_path: Path) -> None:
    said = run_again_as_ordinary_user(str(Path(__file__).with_name(name)), tmp_path / "home")
    assert "no sandbox: " not in said
