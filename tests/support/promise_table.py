"""The table of promises and engines: who is judged to keep what, and the tests that show it.

A test marked ``promise("id")`` tries a promise on an engine: the one that the mark names (``engine="docker"``), else
its parameter ``engine``, ``any_engine`` or ``sandbox``, else the sandbox. With a fixture of
``tests/conformance/conftest.py`` it runs on the engines that keep the promise on this machine and is skipped, with the
reason, on the others. At the end of a run the table is printed; ``docs/reference/engines.md`` has the one that holds
everywhere, written anew by
``python -m tests.support.promise_table``.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from moorage.engine.machine import ENGINES
from moorage.engine.promises import PROMISES, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/engines.md"

UNPACKED = "unpacked"
"""The sandbox of images that are not built in, as a parameter of tests."""

GUESTS = "guests"
"""Docker of built-in images, as a parameter of tests."""

_PROPERTY = "promise"
_HEADS = ("An instance can rely on this", "Asked for by", "docker", "sandbox", "process", "Shown by")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "promise(id, engine): shows that an engine keeps this promise (engine.promises)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write down, where it travels with a test's report, which promises it tries on which engine."""
    for item in items:
        for mark in item.iter_markers("promise"):
            engine = mark.kwargs.get("engine") or _engine_of(item)
            item.user_properties.append((_PROPERTY, f"{mark.args[0]} {engine}"))


def _engine_of(item: pytest.Item) -> str:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    engine = str(parameters.get("engine") or parameters.get("any_engine") or parameters.get("sandbox", "sandbox"))
    return {UNPACKED: "sandbox", GUESTS: "docker"}.get(engine, engine)


def promises_of(item: pytest.Item) -> list[str]:
    """Give the promises that a test shows."""
    return [mark.args[0] for mark in item.iter_markers("promise")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line a promise with what came of its tests on each engine."""
    counts: dict[str, Counter[str]] = {}
    for outcome, tried in _reports(terminalreporter.stats):
        counts.setdefault(tried, Counter())[outcome] += 1
    if not counts:
        return
    terminalreporter.section("promises")
    width = max(len(promise.text) for promise in PROMISES)
    terminalreporter.write_line("  ".join(("".ljust(width), *(engine.ljust(12) for engine in ENGINES))).rstrip())
    for promise in PROMISES:
        cells = [_told(counts.get(f"{promise.id} {engine}", Counter())).ljust(12) for engine in ENGINES]
        terminalreporter.write_line("  ".join((promise.text.ljust(width), *cells)).rstrip())


def _told(outcomes: Counter[str]) -> str:
    """Say it in a word or two: one failure counts more than all that passed; what is skipped is not kept here."""
    for outcome, word in (("failed", "FAILED"), ("error", "FAILED"), ("passed", "kept"), ("skipped", "not here")):
        if outcomes[outcome]:
            return f"{word} ({outcomes[outcome]})" if outcome == "passed" else word
    return "not tried"


def _reports(stats: Mapping[str, list[object]]) -> Iterator[tuple[str, str]]:
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    yield outcome, value


def shown_by() -> dict[str, list[str]]:
    """Read from the tests which of them show which promise."""
    found: dict[str, list[str]] = {promise.id: [] for promise in PROMISES}
    for path in sorted([*ROOT.glob("tests/conformance/test_*.py"), *ROOT.glob("tests/faults/test_*.py")]):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for promise in _marks(node):
                    found[promise].append(node.name)
    return found


def _marks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
            yield ast.literal_eval(decorator.args[0])


def page_table() -> str:
    """Make the table of the reference."""
    tests = shown_by()
    rows = [
        (*row, ", ".join(f"`{name}`" for name in tests[promise.id]))
        for promise, row in zip(PROMISES, table(), strict=True)
    ]
    lines = [_HEADS, ("---",) * len(_HEADS), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main() -> None:
    """Write the page's table anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("| " + " | ".join(_HEADS))
    after = rest.partition("\n\n")[2]
    PAGE.write_text(f"{before}{page_table()}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
