"""The AWS SDK for Rust, unmodified, in a program of its own."""

import os

import pytest
from tests.support import client_life, toolchains
from tests.support.fixtures import Deployment, Wine


@pytest.mark.slow  # starts instances; the first build takes minutes
@pytest.mark.timeout(3600)
@pytest.mark.client("AWS SDK for Rust")
def test_the_rust_sdk_lives_one_whole_life(deployment: Deployment, wine: Wine) -> None:
    if not toolchains.RUST.is_built and os.environ.get("CLIENTS_RUST") != "build":
        pytest.skip("the Rust client is not built yet: scripts/test clients-rust builds it, in about 5 minutes")

    life = client_life.live(toolchains.RUST, deployment, wine)

    client_life.check(life)
    client_life.check_stream(life)
    assert life.one("not-built") == {
        "case": "async",
        "code": "ValidationError",
        "message": "Moorage does not have the operation InvokeEndpointAsync yet.",
        "status": 400,
    }
