"""What a deployed model reaches of the Moorage that runs it: nothing, or what everybody gets who has no key."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.product import ROLE, running
from tests.support.small_models import a_variant, serve

CALLER = """
    import json, urllib.error, urllib.request

    def model_fn(model_dir):
        return None

    def input_fn(body, content_type):
        return json.loads(body)

    def predict_fn(url, model):
        request = urllib.request.Request(url, b"{}", {"X-Amz-Target": "SageMaker.ListEndpoints"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return [answer.status, answer.read().decode()]
        except urllib.error.HTTPError as refusal:
            return [refusal.code, refusal.read().decode()]
        except OSError as fault:
            return [0, str(fault)]

    def output_fn(said, accept):
        return json.dumps(said), "application/json"
"""


@pytest.fixture(scope="module", params=["auto", "process"])
def deployment(
    request: pytest.FixtureRequest, environment_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Have a server with each engine, and the model deployed on it."""
    with running(tmp_path_factory.mktemp("moorage") / "data", "--engine", request.param) as server:
        made = Deployment(server)
        serve(made, "caller", a_variant("only", made.model("caller", models.code_only(CALLER))))
        yield made


@pytest.mark.parametrize("path", ["/", "/endpoints/caller/invocations"])
def test_model_without_a_key_gets_nothing_from_moorages_own_port(deployment: Deployment, path: str) -> None:
    said, _variant = deployment.invoke("caller", json.dumps(f"{deployment.moorage.server()['url']}{path}"))
    assert any(words in said for words in ("refused", "MissingAuthenticationToken", "Missing Authentication Token"))
    assert json.loads(said)[0] in {0, 400, 403}


def test_isolated_model_reaches_nothing_and_is_invoked_or_refused_before_it_is_made(deployment: Deployment) -> None:
    refusals = [check for check in _checks(deployment) if check["name"] == "an isolated instance has no network"]
    deployment.sagemaker.create_model(
        ModelName="isolated",
        ExecutionRoleArn=ROLE,
        EnableNetworkIsolation=True,
        PrimaryContainer=deployment.sagemaker.describe_model(ModelName="caller")["PrimaryContainer"],
    )
    if refusals[0]["state"] != "ok":
        with pytest.raises(ClientError, match=r"EnableNetworkIsolation.*ordinary processes.*Use the engine sandbox"):
            serve(deployment, "isolated", a_variant("only", "isolated"))
        return
    serve(deployment, "isolated", a_variant("only", "isolated"))
    said, _variant = deployment.invoke("isolated", json.dumps("http://1.1.1.1/"))
    assert json.loads(said) == [0, "<urlopen error [Errno 101] Network is unreachable>"]


def _checks(deployment: Deployment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(deployment.moorage.run("doctor", "--output", "json", check=False).stdout)
    return found
