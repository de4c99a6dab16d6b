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
    operations = {"stream": "InvokeEndpointWithResponseStream", "async": "InvokeEndpointAsync"}
    assert {line["case"]: (line["code"], line["message"], line["status"]) for line in life.all("not-built")} == {
        case: ("ValidationError", f"Moorage does not have the operation {name} yet.", 400)
        for case, name in operations.items()
    }
