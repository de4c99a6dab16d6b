"""The AWS SDK for JavaScript v3, unmodified, in a Node.js program of its own."""

import pytest
from tests.support import client_life, toolchains
from tests.support.fixtures import Deployment, Wine


@pytest.mark.slow  # installs the SDK when it is not in the cache; starts instances
@pytest.mark.timeout(600)
@pytest.mark.client("AWS SDK for JavaScript v3")
def test_the_javascript_sdk_lives_one_whole_life(deployment: Deployment, wine: Wine) -> None:
    life = client_life.live(toolchains.JAVASCRIPT, deployment, wine)

    client_life.check(life)
    client_life.check_stream(life)
