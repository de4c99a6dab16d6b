"""Several gateways on one port: what is not in flight on the one that dies goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fixtures import Deployment, Wine
from tests.support.load import Load
from tests.support.product import connections_of, running, wait_until

pytestmark = pytest.mark.slow  # each test starts a whole server

CLIENTS = 8


@pytest.fixture
def served(environment_python: str, wine: Wine, tmp_path: Path) -> Iterator[Deployment]:
    with running(tmp_path / "data", "--gateways", "2") as moorage:
        deployment = Deployment(moorage)
        model = deployment.model("m", wine.artefact("logistic"))
        deployment.in_service("e", ("only", model, 1, 2))
        yield deployment


def load_on(served: Deployment, wine: Wine) -> Load:
    return Load(served, wine.csv(0, 1), wine.answers["logistic"][:2], clients=CLIENTS)


def test_only_what_is_in_flight_on_a_killed_gateway_fails(served: Deployment, wine: Wine) -> None:
    before = served.moorage.pids("gateway")
    with load_on(served, wine) as load:
        shares = {pid: connections_of(pid, served.moorage.port) for pid in before}
        killed = max(before, key=lambda pid: shares[pid])
        os.kill(killed, signal.SIGKILL)
        load.await_more(100)
        after = wait_until(
            lambda: len(now := served.moorage.pids("gateway")) == 2 and killed not in now and now,
            within=10,
            what="the killed gateway is replaced",
        )
        load.await_more(400)

    assert set(before) - {killed} < set(after)
    assert len(load.failures) <= shares[killed], "one at the most for each connection of the killed gateway"


def test_no_invocation_fails_while_the_control_plane_of_two_gateways_is_killed(served: Deployment, wine: Wine) -> None:
    gateways, instances = served.moorage.pids("gateway"), served.moorage.pids("instance", "e")
    (control,) = served.moorage.pids("control")
    with load_on(served, wine) as load:
        os.kill(control, signal.SIGKILL)
        load.await_more(200)
        wait_until(lambda: served.moorage.pids("control") not in ([], [control]), within=10, what="a new one")
        described = served.sagemaker.describe_endpoint(EndpointName="e")
        load.await_more(200)

    assert load.failures == []
    assert described["EndpointStatus"] == "InService"
    assert served.moorage.pids("gateway") == gateways
    assert sorted(served.moorage.pids("instance", "e")) == sorted(instances)


def test_a_gateway_that_starts_without_a_control_plane_serves_from_the_disk(served: Deployment, wine: Wine) -> None:
    (control,) = served.moorage.pids("control")
    killed = served.moorage.pids("gateway")[0]
    os.kill(control, signal.SIGSTOP)  # takes calls, says nothing
    os.kill(killed, signal.SIGKILL)
    with load_on(served, wine) as load:
        load.await_more(300)
    os.kill(control, signal.SIGCONT)

    assert load.failures == []
