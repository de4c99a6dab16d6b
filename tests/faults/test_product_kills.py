"""Kill -9 of each process: what was accepted stays, what serves goes on serving."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment, Wine
from tests.support.load import Load
from tests.support.product import Moorage, alive, running, wait_until

pytestmark = pytest.mark.slow  # each test starts a whole server


@pytest.fixture
def served(environment_python: str, wine: Wine, tmp_path: Path) -> Iterator[Deployment]:
    with running(tmp_path / "data") as moorage:
        deployment = Deployment(moorage)
        model = deployment.model("m", wine.artefact("logistic"))
        deployment.in_service("e", ("only", model, 1, 2))
        yield deployment


def test_a_killed_instance_is_replaced_and_only_its_own_invocations_fail(served: Deployment, wine: Wine) -> None:
    before = served.moorage.pids("instance", "e")
    with Load(served, wine.csv(0, 1), wine.answers["logistic"][:2]) as load:
        os.kill(before[0], signal.SIGKILL)
        load.await_more(50)
        after = wait_until(
            lambda: len(now := served.moorage.pids("instance", "e")) == 2 and before[0] not in now and now,
            within=20,
            what="the killed instance is replaced",
        )
        load.await_more(50)

    assert before[1] in after
    assert len(load.failures) <= 4, "one at the most for each client: the one in flight on the dead instance"
    assert served.sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService"


def test_the_only_instance_is_waited_for_however_long_its_model_takes_to_load(served: Deployment, wine: Wine) -> None:
    slowly = models.INFERENCE + "\nimport time\ntime.sleep(3)\n"  # longer than what is waited without knowing for what
    model = served.model("slow", models.trained(wine.folder, "logistic", slowly))
    served.in_service("slow", ("only", model, 1, 1))
    (killed,) = served.moorage.pids("instance", "slow")
    with Load(served, wine.csv(0, 1), wine.answers["logistic"][:2], endpoint="slow") as load:
        os.kill(killed, signal.SIGKILL)
        load.await_more(50)

    assert len(load.failures) <= 4, "one at the most for each client: the one in flight on the dead instance"


def test_no_invocation_fails_while_the_control_plane_is_killed(served: Deployment, wine: Wine) -> None:
    instances = served.moorage.pids("instance", "e")
    (control,) = served.moorage.pids("control")
    with Load(served, wine.csv(0, 1), wine.answers["logistic"][:2]) as load:
        os.kill(control, signal.SIGKILL)
        load.await_more(200)
        wait_until(lambda: served.moorage.pids("control") not in ([], [control]), within=10, what="a new one")
        described = served.sagemaker.describe_endpoint(EndpointName="e")
        load.await_more(100)

    assert load.failures == []
    assert described["EndpointStatus"] == "InService"
    assert sorted(served.moorage.pids("instance", "e")) == sorted(instances)


def test_a_killed_gateway_serves_again_at_once(served: Deployment, wine: Wine) -> None:
    (gateway,) = served.moorage.pids("gateway")

    os.kill(gateway, signal.SIGKILL)

    answers = [served.invoke("e", wine.csv(0, 1))[0] for _ in range(20)]
    assert {tuple(json.loads(answer)) for answer in answers} == {tuple(wine.answers["logistic"][:2])}
    assert served.moorage.pids("gateway") != [gateway]


def test_a_killed_node_agent_starts_its_instances_anew(served: Deployment, wine: Wine) -> None:
    (node,) = served.moorage.pids("node")
    before = served.moorage.pids("instance", "e")

    os.kill(node, signal.SIGKILL)

    wait_until(lambda: not any(map(alive, before)), within=10, what="its instances have ended with it")

    def answered() -> bool:
        with contextlib.suppress(ClientError):
            return served.invoke("e", wine.csv(0, 1))[0] == json.dumps(wine.answers["logistic"][:2])
        return False

    wait_until(answered, within=30, what="the endpoint answers again")
    wait_until(lambda: len(served.moorage.pids("instance", "e")) == 2, within=30, what="both are back")


def test_everything_comes_back_after_a_power_cut(environment_python: str, wine: Wine, tmp_path: Path) -> None:
    moorage = Moorage(tmp_path / "data").start()
    deployment = Deployment(moorage)
    model = deployment.model("m", wine.artefact("forest"))
    deployment.in_service("e", ("only", model, 1, 2))
    deployment.sagemaker.create_endpoint_config(
        EndpointConfigName="last-word",
        ProductionVariants=[
            {
                "VariantName": "v",
                "ModelName": model,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )

    moorage.kill_everything()

    with running(tmp_path / "data") as again:
        revived = Deployment(again)
        assert revived.settled("e")["EndpointStatus"] == "InService"

        def answered() -> bool:
            with contextlib.suppress(ClientError):
                return revived.invoke("e", wine.csv(0, 1))[0] == json.dumps(wine.answers["forest"][:2])
            return False

        wait_until(answered, within=30, what="the endpoint answers again")
        wait_until(lambda: len(again.pids("instance", "e")) == 2, within=30, what="both instances are back")
        assert revived.sagemaker.describe_endpoint_config(EndpointConfigName="last-word")


def test_nothing_runs_after_the_supervisor_is_killed(served: Deployment, tmp_path: Path) -> None:
    pids = [row["pid"] for row in served.moorage.ps()]
    assert served.moorage.process is not None

    served.moorage.process.kill()

    wait_until(lambda: not any(map(alive, pids)), within=15, what="every process has ended with it")
