"""What all tests share: no test touches the user's own folders or reaches another AWS by mistake."""

from collections.abc import Iterator

import pytest
from tests.support import client_matrix, promise_table


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    client_matrix.pytest_configure(config)
    promise_table.pytest_configure(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write down what the tests of clients and of promises are about, where it travels with their reports."""
    client_matrix.pytest_collection_modifyitems(items)
    promise_table.pytest_collection_modifyitems(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix of clients and the table of promises."""
    client_matrix.pytest_terminal_summary(terminalreporter)
    promise_table.pytest_terminal_summary(terminalreporter)


@pytest.fixture(autouse=True, scope="session")
def no_other_account() -> Iterator[None]:
    """Take away what would lead an AWS client to somebody's real account, and the settings of the developer's shell."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "MOORAGE_DATA_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        yield
