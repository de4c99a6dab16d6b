"""Changes under load with real models: no invocation fails, whatever fleet replaces which."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.support import models
from tests.support.fixtures import Deployment, Wine
from tests.support.product import wait_until

_CALLERS = 4
CSV_TO_JSON = {"ContentType": "text/csv", "Accept": "application/json"}
TRAFFIC = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}


@dataclass
class Load:
    """Callers that invoke an endpoint again and again, and what they are answered."""

    runtime: Any
    endpoint: str
    body: str
    answers: list[str] = field(default_factory=list)
    """In the order of arrival: what the models said, or the text of an error."""
    stop: threading.Event = field(default_factory=threading.Event)

    def call(self) -> None:
        """Invoke until told to stop."""
        while not self.stop.is_set():
            try:
                answer = self.runtime.invoke_endpoint(EndpointName=self.endpoint, Body=self.body, **CSV_TO_JSON)
                self.answers.append(answer["Body"].read().decode())
            except (BotoCoreError, ClientError) as fault:
                self.answers.append(json.dumps([f"{type(fault).__name__}: {fault}"]))

    def __enter__(self) -> Self:
        self.callers = [threading.Thread(target=self.call, daemon=True) for _ in range(_CALLERS)]
        for caller in self.callers:
            caller.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for caller in self.callers:
            caller.join(30)

    def goes_on(self) -> None:
        """Wait for further answers."""
        seen = len(self.answers)
        wait_until(lambda: len(self.answers) > seen + 20, within=30, what="further answers")


@dataclass(frozen=True)
class Rows:
    """Two held-out rows, and what each model says of them."""

    body: str
    answers: Mapping[str, tuple[int, ...]]


@pytest.fixture
def rows(wine: Wine) -> Rows:
    """Rows on which the two models differ."""
    pairs = list(zip(wine.answers["logistic"], wine.answers["forest"], strict=True))
    differs = next(index for index, (one, other) in enumerate(pairs) if one != other)
    answers = {name: (wine.answers[name][differs], wine.answers[name][0]) for name in ("logistic", "forest")}
    return Rows(wine.csv(differs, 0), answers)


def different(answers: list[str]) -> set[tuple[Any, ...]]:
    """Give what was answered, each once; an error shows as its text."""
    return {tuple(json.loads(answer)) for answer in answers}


def configure(deployment: Deployment, name: str, model: str, count: int) -> str:
    deployment.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "only",
                "ModelName": model,
                "InitialInstanceCount": count,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    return name


def update(deployment: Deployment, name: str, config: str, **members: Any) -> dict[str, Any]:
    deployment.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, **members)
    return deployment.settled(name)


@pytest.fixture(scope="module")
def runtime(deployment: Deployment) -> Any:
    """A client that hides no failure by trying again."""
    return deployment.moorage.client("sagemaker-runtime", retries={"total_max_attempts": 1})


@pytest.fixture(scope="module")
def trained(deployment: Deployment, wine: Wine) -> dict[str, str]:
    return {name: deployment.model(f"upd-{name}", wine.artefact(name)) for name in ("logistic", "forest")}


@pytest.fixture
def endpoint(deployment: Deployment, trained: dict[str, str], request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint of the logistic model, named after the test, as is its configuration."""
    name = "upd-" + request.node.name.replace("_", "-")[5:55].strip("-")
    yield deployment.in_service(name, ("only", trained["logistic"], 1, 1))
    deployment.delete(name)


@pytest.mark.slow  # four roll-outs and changes of capacity of real models under load
def test_no_invocation_fails_while_fleets_and_capacities_change(
    deployment: Deployment, runtime: Any, endpoint: str, trained: dict[str, str], rows: Rows
) -> None:
    configure(deployment, "upd-two-forests", trained["forest"], 2)
    baking = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": TRAFFIC, "TerminationWaitInSeconds": 1}}

    with Load(runtime, endpoint, rows.body) as load:
        described = update(deployment, endpoint, "upd-two-forests", DeploymentConfig=baking)
        switched = len(load.answers)
        load.goes_on()
        after_switch = different(load.answers[switched + _CALLERS :])
        for count in (3, 1):
            deployment.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=endpoint,
                DesiredWeightsAndCapacities=[{"VariantName": "only", "DesiredInstanceCount": count}],
            )
            deployment.settled(endpoint)
        update(deployment, endpoint, endpoint, RetainAllVariantProperties=True)
        load.goes_on()

    assert described["EndpointConfigName"] == "upd-two-forests"
    assert described["LastDeploymentConfig"] == baking
    assert different(load.answers) == set(rows.answers.values())
    assert after_switch == {rows.answers["forest"]}
    assert len(deployment.moorage.pids("instance", endpoint)) == 1


@pytest.mark.slow  # a roll-out that fails and one that mends it, under load
def test_failed_update_keeps_old_fleet_serving_and_a_good_one_mends_it(
    deployment: Deployment, runtime: Any, endpoint: str, trained: dict[str, str], rows: Rows
) -> None:
    deployment.model("upd-broken", models.code_only("def model_fn(model_dir):\n    raise RuntimeError('no rudder')\n"))
    configure(deployment, "upd-broken", "upd-broken", 2)

    with Load(runtime, endpoint, rows.body) as load:
        failed = update(deployment, endpoint, "upd-broken")
        instances = len(deployment.moorage.pids("instance", endpoint))
        load.goes_on()

    assert (failed["EndpointStatus"], failed["EndpointConfigName"]) == ("InService", endpoint)
    assert failed["FailureReason"].startswith("The primary container for production variant only did not pass")
    assert "no rudder" in failed["FailureReason"]
    assert instances == 1
    assert different(load.answers) == {rows.answers["logistic"]}
    mended = update(deployment, endpoint, configure(deployment, "upd-good", trained["forest"], 1))
    assert (mended["EndpointConfigName"], "FailureReason" in mended) == ("upd-good", False)
    assert different([deployment.invoke(endpoint, rows.body)[0]]) == {rows.answers["forest"]}
