"""Models of AWS's framework images, by their URIs, through boto3 and the SageMaker Python SDK 2's own predictors."""

from pathlib import Path

import pytest
from tests.support import frameworks
from tests.support.client_environments import python_client, sdk_defaults
from tests.support.fixtures import Deployment
from tests.support.golden_models import MODELS
from tests.support.made_once import BUILD_SECONDS
from tests.support.models import code_only, pack
from tests.support.product import Moorage
from tests.support.without_docker import server, user

__all__ = ["server", "user"]

pytestmark = [
    pytest.mark.slow,  # makes the environments of frameworks
    pytest.mark.timeout(2 * BUILD_SECONDS),
]

AWS = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
PYTORCH = f"{AWS}/pytorch-inference:2.3.0-cpu-py311"
HUGGING_FACE = f"{AWS}/huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04"


def deploy(user: Deployment, folder: Path, name: str, image: str) -> None:
    """Serve a golden model by the image of an URI."""
    folder.mkdir()
    MODELS[name].make(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = user.model(name, pack(files), Image=image)
    user.create(name, ("blue", model, 1.0, 1))
    described = user.settled(name, within_seconds=BUILD_SECONDS)
    assert described["EndpointStatus"] == "InService", described.get("FailureReason")


def test_predictors_of_the_sdk_are_answered_by_the_images_of_their_frameworks(
    user: Deployment, server: Moorage, tmp_path: Path
) -> None:
    client = python_client("sdk_v2")
    torch, transformers = frameworks.torch_python(), frameworks.hugging_face_python()
    server.run("images", "add", "pytorch-inference", "--python", str(torch))
    server.run("images", "add", "huggingface-pytorch-inference", "--python", str(transformers))
    deploy(user, tmp_path / "x", "xgboost", XGBOOST)
    deploy(user, tmp_path / "p", "pytorch", PYTORCH)
    deploy(user, tmp_path / "h", "huggingface", HUGGING_FACE)

    seen = client.live("sdk_v2_predictors.py", server, home=tmp_path, **sdk_defaults(tmp_path))

    assert [row[0][:6] for row in seen["xgboost"]] == ["0.7310", "0.2689"]
    assert seen["pytorch"] == [[5.0], [11.0]]
    assert [entry["label"] for entry in seen["huggingface"]] == ["FÄHRT"]
    with pytest.raises(user.runtime.exceptions.ModelError) as caught:
        user.runtime.invoke_endpoint(EndpointName="xgboost", Body=b"[1]", ContentType="application/json")
    assert caught.value.response["OriginalStatusCode"] == 415
    assert "application/json is not an accepted ContentType: csv, libsvm" in caught.value.response["OriginalMessage"]


def test_plain_python_serves_bytes_by_its_neutral_image(user: Deployment) -> None:
    code = """
        def predict_fn(data, model):
            return bytes(reversed(data)) if isinstance(data, bytes) else {"turned": data[::-1]}
    """
    model = user.model("plain", code_only(code), Image="moorage/python")
    user.create("plain", ("blue", model, 1.0, 1))
    assert user.settled("plain", within_seconds=BUILD_SECONDS)["EndpointStatus"] == "InService"
    invoke = user.runtime.invoke_endpoint
    turned = invoke(EndpointName="plain", Body=b"\x00\x01", ContentType="application/octet-stream")
    assert (turned["Body"].read(), turned["ContentType"]) == (b"\x01\x00", "application/octet-stream")
    turned = invoke(EndpointName="plain", Body=b"[1, 2]", ContentType="application/json")
    assert (turned["Body"].read(), turned["ContentType"]) == (b'{"turned": [2, 1]}', "application/json")
