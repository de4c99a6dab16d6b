"""A server that finds no Docker, whatever the machine has, and its user: fixtures of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fixtures import Deployment
from tests.support.product import Moorage, running


def without_docker(folder: Path, **settings: str) -> dict[str, str]:
    """Give the environment of such a server, which also ends soon."""
    return {"DOCKER_HOST": f"unix://{folder}/nobody.sock", "MOORAGE_STOP_GRACE_SECONDS": "2", **settings}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moorage]:
    """Start one."""
    folder = tmp_path_factory.mktemp("moorage")
    with running(folder / "data", **without_docker(folder)) as made:
        yield made


@pytest.fixture(scope="module")
def user(server: Moorage) -> Deployment:
    """Use the module's server by boto3."""
    return Deployment(server)
