"""The main job with boto3: two weighted variants of real models, invoked, re-weighted, deleted."""

import json
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment, Wine


@pytest.fixture(scope="module")
def endpoint(deployment: Deployment, wine: Wine) -> str:
    logistic = deployment.model("life-logistic", wine.artefact("logistic"))
    forest = deployment.model("life-forest", wine.artefact("forest"))
    return deployment.in_service("life", ("logistic", logistic, 2, 2), ("forest", forest, 1, 2))


def test_predictions_are_those_of_the_same_model_in_this_process(
    deployment: Deployment, endpoint: str, wine: Wine
) -> None:
    everything = wine.csv(*range(len(wine.rows)))

    answers = {
        variant: json.loads(deployment.invoke(endpoint, everything, TargetVariant=variant)[0])
        for variant in ("logistic", "forest")
    }

    assert answers == wine.answers


@pytest.mark.slow  # 3,000 invocations
def test_the_split_is_as_configured_and_follows_a_live_change(
    deployment: Deployment, endpoint: str, wine: Wine
) -> None:
    body = wine.csv(0, 1)

    def observed(calls: int) -> dict[str, int]:
        with ThreadPoolExecutor(16) as pool:
            variants = list(pool.map(lambda _: deployment.invoke(endpoint, body)[1], range(calls)))
        return {name: variants.count(name) for name in ("logistic", "forest")}

    before = observed(3000)
    deployment.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "logistic", "DesiredWeight": 1},
            {"VariantName": "forest", "DesiredWeight": 3},
        ],
    )
    described = deployment.settled(endpoint)
    after = observed(1000)

    assert chi_square(before, {"logistic": 2000, "forest": 1000}) < P_ONE_IN_A_MILLION
    assert chi_square(after, {"logistic": 250, "forest": 750}) < P_ONE_IN_A_MILLION
    assert [variant["CurrentWeight"] for variant in described["ProductionVariants"]] == [1.0, 3.0]


P_ONE_IN_A_MILLION = 23.93
"""Chi-square with one degree of freedom that chance exceeds once in a million runs."""


def chi_square(observed: dict[str, int], expected: dict[str, int]) -> float:
    return sum((observed[name] - expected[name]) ** 2 / expected[name] for name in expected)


def test_describe_shows_what_runs(deployment: Deployment, endpoint: str) -> None:
    described = deployment.sagemaker.describe_endpoint(EndpointName=endpoint)

    assert described["EndpointStatus"] == "InService"
    for variant in described["ProductionVariants"]:
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (2, 2)
        assert "@sha256:" in variant["DeployedImages"][0]["ResolvedImage"]


def test_each_instance_is_a_process_tree_of_its_own_under_the_node_agent(deployment: Deployment, endpoint: str) -> None:
    rows = deployment.moorage.ps()

    instances = [row for row in rows if row["role"] == "instance" and row["endpoint"] == endpoint]
    assert len({row["pid"] for row in instances}) == 4
    assert {row["variant"] for row in instances} == {"logistic", "forest"}
    assert all(row["rss_bytes"] > 0 and row["address"] for row in instances)
    assert {"supervisor", "gateway", "control", "node", "neighbours"} <= {row["role"] for row in rows}


def test_deleting_configuration_and_models_does_not_disturb_the_endpoint(deployment: Deployment, wine: Wine) -> None:
    model = deployment.model("kept", wine.artefact("logistic"))
    deployment.in_service("kept", ("only", model, 1, 1))
    deployment.sagemaker.delete_endpoint_config(EndpointConfigName="kept")
    deployment.sagemaker.delete_model(ModelName="kept")

    answer, _ = deployment.invoke("kept", wine.csv(0, 1))

    assert json.loads(answer) == wine.answers["logistic"][:2]
    deployment.delete("kept")
    with pytest.raises(ClientError, match=r'Could not find endpoint ".*endpoint/kept"'):
        deployment.sagemaker.describe_endpoint(EndpointName="kept")


def test_capacity_follows_a_live_change(deployment: Deployment, wine: Wine) -> None:
    model = deployment.model("grows", wine.artefact("logistic"))
    deployment.in_service("grows", ("only", model, 1, 1))

    counts = []
    for wanted in (3, 1):
        deployment.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="grows",
            DesiredWeightsAndCapacities=[{"VariantName": "only", "DesiredInstanceCount": wanted}],
        )
        deployment.settled("grows")
        counts.append(len(deployment.moorage.pids("instance", "grows")))

    assert counts == [3, 1]
    deployment.delete("grows")


def test_a_deployment_honours_requirements_and_environment(deployment: Deployment) -> None:
    source = """
        import os
        import tabulate  # of requirements.txt

        def model_fn(model_dir):
            return sorted(os.listdir(model_dir))

        def predict_fn(data, model):
            return [tabulate.__version__, os.environ["GREETING"]]
    """
    artefact = models.pack(
        {
            "code/inference.py": textwrap.dedent(source).encode(),
            "code/requirements.txt": b"tabulate==0.9.0\n",
        }
    )
    model = deployment.model("needs", artefact, Environment={"GREETING": "ahoy"})
    deployment.in_service("needs", ("only", model, 1, 1))

    answer, _ = deployment.invoke("needs", "1,2\n3,4")

    assert json.loads(answer) == ["0.9.0", "ahoy"]
    deployment.delete("needs")
