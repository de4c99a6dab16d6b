"""The AWS SDK for Go v2, unmodified, in a program of its own."""

import pytest
from tests.support import client_life, toolchains
from tests.support.fixtures import Deployment, Wine


@pytest.mark.slow  # builds the SDK when it is not in the cache; starts instances
@pytest.mark.timeout(900)
@pytest.mark.client("AWS SDK for Go v2")
def test_the_go_sdk_lives_one_whole_life(deployment: Deployment, wine: Wine) -> None:
    life = client_life.live(toolchains.GO, deployment, wine)

    client_life.check(life)
    client_life.check_stream(life)
