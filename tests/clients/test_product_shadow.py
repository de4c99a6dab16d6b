"""Shadow variants with real models: they get copies of their share, and nothing they do reaches the client."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.product import wait_until
from tests.support.small_models import BROKEN, DYING, ECHO, HUGE, SLOW, TELLING, a_variant, serve, told

Model = Callable[[str, str], str]
CALLS = 40


@pytest.fixture(scope="module")
def model(deployment: Deployment) -> Model:
    """Give the name of the model of a source, registered on its first use."""
    made: dict[str, str] = {}

    def register(name: str, source: str) -> str:
        return made.get(name) or made.setdefault(name, deployment.model(f"shadow-{name}", models.code_only(source)))

    return register


def shadowed(deployment: Deployment, model: Model, name: str, *, weight: float, production: float = 1.0) -> None:
    """Make an endpoint of a model that echoes, with a shadow that tells what it gets."""
    serve(
        deployment,
        name,
        a_variant("only", model("echo", ECHO), InitialVariantWeight=production),
        ShadowProductionVariants=[a_variant("copy", model("telling", TELLING), InitialVariantWeight=weight)],
    )


def copies(deployment: Deployment, name: str) -> list[str]:
    """Give the bodies that the shadow has got, in order."""
    return [json.loads(line)["data"] for line in told(deployment, name, "copy")]


def invoke(deployment: Deployment, name: str, body: str) -> None:
    assert deployment.invoke(name, body) == (body, "only")


def reweigh(deployment: Deployment, name: str, variant: str, weight: float) -> None:
    deployment.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": variant, "DesiredWeight": weight}]
    )
    deployment.settled(name)


@pytest.mark.slow  # starts instances and counts what reaches one of them
@pytest.mark.parametrize(("weight", "production", "share"), [(1.0, 1.0, 1.0), (0.5, 2.0, 0.25), (3.0, 1.0, 1.0)])
def test_shadow_gets_its_share_of_copies_and_none_twice(
    deployment: Deployment, model: Model, weight: float, production: float, share: float
) -> None:
    name = f"share-{weight}-{production}".replace(".", "-")
    shadowed(deployment, model, name, weight=weight, production=production)
    bodies = [f"row {number}" for number in range(CALLS)]

    for body in bodies:
        invoke(deployment, name, body)
    wait_until(lambda: len(copies(deployment, name)) >= CALLS * share, within=30, what="the copies have arrived")
    deployment.delete(name)

    seen = copies(deployment, name)
    assert len(seen) == CALLS * share
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(bodies)


@pytest.mark.slow  # starts instances
def test_share_of_a_shadow_follows_a_live_change(deployment: Deployment, model: Model) -> None:
    shadowed(deployment, model, "share-live", weight=0.0)

    invoke(deployment, "share-live", "before")
    reweigh(deployment, "share-live", "copy", 1.0)
    invoke(deployment, "share-live", "with")
    wait_until(lambda: copies(deployment, "share-live"), within=30, what="the copy has arrived")
    reweigh(deployment, "share-live", "copy", 0.0)
    invoke(deployment, "share-live", "after")
    deployment.delete("share-live")

    assert copies(deployment, "share-live") == ["with"]


@pytest.mark.slow  # starts instances
def test_shadow_is_asked_the_same_as_the_variant_that_answers(deployment: Deployment, model: Model) -> None:
    telling = model("telling", TELLING)
    shadow = a_variant("copy", telling)
    serve(deployment, "same", a_variant("only", telling), ShadowProductionVariants=[shadow])

    deployment.runtime.invoke_endpoint(
        EndpointName="same",
        Body="1,2\n3,4",
        ContentType="text/csv",
        Accept="application/x-answer",
        CustomAttributes="trace=7",
        InferenceId="the-id",
    )
    wait_until(lambda: told(deployment, "same", "copy"), within=30, what="the copy has arrived")
    ((answering,), (shadowing,)) = (
        [json.loads(line) for line in told(deployment, "same", variant)] for variant in ("only", "copy")
    )
    deployment.delete("same")

    assert shadowing["data"] == answering["data"] == "1,2\n3,4"
    for header in ("content-type", "accept", "x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-inference-id"):
        assert shadowing["headers"].get(header) == answering["headers"].get(header), header
    assert shadowing["headers"]["content-type"] == "text/csv"
    assert shadowing["headers"]["accept"] == "application/x-answer"
    assert shadowing["headers"]["x-amzn-sagemaker-custom-attributes"] == "trace=7"


@pytest.mark.slow  # starts instances, one of which sleeps, fails, dies or talks too much
@pytest.mark.parametrize(("kind", "source"), [("slow", SLOW), ("broken", BROKEN), ("dying", DYING), ("huge", HUGE)])
def test_what_a_shadow_does_delays_no_client_and_changes_no_answer(
    deployment: Deployment, model: Model, kind: str, source: str
) -> None:
    name = f"{kind}-shadow"
    serve(
        deployment,
        name,
        a_variant("only", model("echo", ECHO)),
        ShadowProductionVariants=[a_variant("copy", model(kind, source))],
    )

    def timed(number: int) -> tuple[Any, float]:
        began = time.monotonic()
        answer = deployment.invoke(name, f"row {number}")
        return answer, time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(timed, range(CALLS)))
    wait_until(lambda: told(deployment, name, "copy"), within=30, what="the shadow has got a copy")
    described = deployment.sagemaker.describe_endpoint(EndpointName=name)
    deployment.sagemaker.delete_endpoint(EndpointName=name)

    assert [answer for answer, _ in answers] == [(f"row {number}", "only") for number in range(CALLS)]
    # Far below the six seconds that the slow shadow takes for each.
    assert max(seconds for _, seconds in answers) < 3.0
    assert described["EndpointStatus"] == "InService"


@pytest.mark.slow  # starts instances
def test_shadow_cannot_be_invoked_by_its_name_and_stands_apart(deployment: Deployment, model: Model) -> None:
    shadowed(deployment, model, "apart", weight=1.0)

    with pytest.raises(ClientError) as refused:
        deployment.invoke("apart", "row", TargetVariant="copy")
    described = deployment.sagemaker.describe_endpoint(EndpointName="apart")
    listed = deployment.moorage.run("ls").stdout
    processes = [row["variant"] for row in deployment.moorage.ps() if row.get("endpoint") == "apart"]
    deployment.delete("apart")

    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert [variant["VariantName"] for variant in described["ProductionVariants"]] == ["only"]
    assert [variant["CurrentInstanceCount"] for variant in described["ShadowProductionVariants"]] == [1]
    assert "only 1/1 (100%), copy 1/1 (shadow 100%)" in listed
    assert sorted(processes) == ["copy", "only"]


@pytest.mark.slow  # starts instances, and another fleet of them
def test_promoted_shadow_answers_and_is_copied_to_no_more(deployment: Deployment, model: Model) -> None:
    shadowed(deployment, model, "promoted", weight=1.0)
    deployment.sagemaker.create_endpoint_config(
        EndpointConfigName="promotion", ProductionVariants=[a_variant("copy", model("telling", TELLING))]
    )

    deployment.sagemaker.update_endpoint(EndpointName="promoted", EndpointConfigName="promotion")
    described = deployment.settled("promoted")
    answer = deployment.invoke("promoted", "row")
    processes = [row["variant"] for row in deployment.moorage.ps() if row.get("endpoint") == "promoted"]
    deployment.delete("promoted")

    assert "ShadowProductionVariants" not in described
    assert answer == ("told", "copy")
    assert processes == ["copy"]
    assert copies(deployment, "promoted") == ["row"]
