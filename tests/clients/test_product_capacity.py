"""Strict capacity through the whole product: real models, real processes, and a control plane that is killed."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.fixtures import Deployment, Wine
from tests.support.product import running, wait_until

pytestmark = pytest.mark.slow  # a whole server

LARGE = "ml.m5.large"


@pytest.fixture
def strict(environment_python: str, wine: Wine, tmp_path: Path) -> Iterator[Deployment]:
    """A machine with room for two instances of two vCPUs."""
    size = {"MOORAGE_NODE_VCPUS": "4", "MOORAGE_NODE_MEMORY_MIB": str(16 * 1024)}
    with running(tmp_path / "data", MOORAGE_CAPACITY="strict", **size) as moorage:
        deployment = Deployment(moorage)
        deployment.model("m", wine.artefact("logistic"))
        yield deployment


def status(deployment: Deployment, name: str) -> str:
    return str(deployment.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])


def messages(deployment: Deployment, name: str) -> list[str]:
    found = json.loads(deployment.moorage.run("events", name, "--output", "json").stdout)
    return [event["detail"]["Message"] for event in found if event["source"] == "moorage"]


def kill_control(deployment: Deployment) -> None:
    (control,) = deployment.moorage.pids("control")
    os.kill(control, signal.SIGKILL)
    wait_until(lambda: deployment.moorage.pids("control") not in ([], [control]), within=20, what="a new control plane")


def test_room_is_waited_for_in_turn_and_never_given_twice(strict: Deployment, wine: Wine) -> None:
    strict.in_service("one", ("v", "m", 1, 2))
    strict.create("two", ("v", "m", 1, 2))
    wait_until(lambda: messages(strict, "two"), within=20, what="people are told who waits")

    kill_control(strict)

    assert status(strict, "two") == "Creating"
    assert (len(strict.moorage.pids("instance", "one")), strict.moorage.pids("instance", "two")) == (2, [])
    strict.delete("one")
    assert strict.settled("two")["EndpointStatus"] == "InService"
    assert json.loads(strict.invoke("two", wine.csv(0, 1))[0]) == wine.answers["logistic"][:2]
    assert len(strict.moorage.pids("instance", "two")) == 2


def test_reservation_outlives_the_control_plane_and_keeps_its_room(strict: Deployment, wine: Wine) -> None:
    arn = strict.moorage.run("reservations", "create", "kept", "--instance-type", LARGE, "--count", "1").stdout.strip()
    strict.create("others", ("v", "m", 1, 2))
    kill_control(strict)
    named = {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": arn}
    make(strict, "named", InstanceType=LARGE, CapacityReservationConfig=named)
    assert strict.settled("named")["EndpointStatus"] == "InService"
    assert json.loads(strict.invoke("named", wine.csv(0, 1))[0]) == wine.answers["logistic"][:2]
    assert "1 of 1" in strict.moorage.run("reservations", "ls").stdout
    assert status(strict, "others") == "Creating"


def test_pool_that_fits_serves_the_model_that_it_names(strict: Deployment, wine: Wine) -> None:
    strict.model("small", wine.artefact("forest"))
    pools = [
        {"InstanceType": "ml.m5.24xlarge", "Priority": 1},
        {"InstanceType": LARGE, "Priority": 2, "ModelNameOverride": "small"},
    ]
    make(strict, "pooled", InstancePools=pools)
    (variant,) = strict.settled("pooled")["ProductionVariants"]
    assert [pool["CurrentInstanceCount"] for pool in variant["InstancePools"]] == [0, 1]
    assert json.loads(strict.invoke("pooled", wine.csv(0, 1))[0]) == wine.answers["forest"][:2]
    assert messages(strict, "pooled")[0].startswith("Capacity of ml.m5.24xlarge is short")


def make(deployment: Deployment, name: str, **members: Any) -> None:
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, **members}
    deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    deployment.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
