"""The matrix of clients: one line a client at the end of a run, of the tests marked ``client("its name")``."""

from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

_PROPERTY = "client"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "client(name): a test of this client, counted in its line of the matrix")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write the client's name where it travels with the test's report, also from another process."""
    for item in items:
        if (mark := item.get_closest_marker("client")) is not None:
            item.user_properties.append((_PROPERTY, mark.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line a client: how many of its tests passed, failed or were skipped, in how many seconds."""
    counts: dict[str, Counter[str]] = {}
    seconds: dict[str, float] = {}
    for outcome, client, duration in _reports(terminalreporter.stats):
        counts.setdefault(client, Counter())[outcome] += 1
        seconds[client] = seconds.get(client, 0.0) + duration
    if counts:
        terminalreporter.section("clients")
    for client in sorted(counts):
        told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts[client].items()))
        terminalreporter.write_line(f"{client:32} {told} ({seconds[client]:.1f} s)")


def _reports(stats: Mapping[str, list[object]]) -> Iterator[tuple[str, str, float]]:
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in stats.get(outcome, ()):
            client = dict(getattr(report, "user_properties", ())).get(_PROPERTY)
            if client is not None:
                yield outcome, client, getattr(report, "duration", 0.0)
