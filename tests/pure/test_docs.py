"""Documentation that is compared with what it describes."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_dependency_has_a_line_with_its_reason() -> None:
    page = (ROOT / "docs/design/dependencies.md").read_text().partition("## What we do without")[0]
    documented = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    assert documented == {re.split(r"[\[>=<~! ]", line)[0] for line in lines}


def test_the_lock_has_every_dependency() -> None:
    locked = {line.split("==")[0] for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if "==" in line}
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    assert {re.split(r"[\[>=<~! ]", line)[0] for line in lines} <= locked


def test_the_lock_names_no_place_of_a_machine() -> None:
    lock = (ROOT / "requirements-dev.lock").read_text()
    assert not re.search(r"https?://|--index-url|--find-links| @ |file:", lock)


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []
