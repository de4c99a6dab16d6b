"""Pythons that are there already as images: ``moorage images add --python``, boto3's CreateModel, InService, invoke."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.fixtures import Deployment, Wine
from tests.support.models import pack
from tests.support.product import Moorage
from tests.support.wheels import write_wheel
from tests.support.without_docker import server, user

__all__ = ["server", "user"]

pytestmark = pytest.mark.slow  # makes environments

AWS = "683313688378.dkr.ecr.us-east-1.amazonaws.com"

TRANSFORM = """
import os, sys
def model_fn(folder):
    return open(os.path.join(folder, "word")).read()
def transform_fn(model, data, content_type, accept):
    import extra
    return f"{model} {extra.ANSWER} {sys.prefix}", "text/plain"
"""


@pytest.fixture
def venv(environment_python: str, tmp_path: Path) -> Path:
    """Make an environment of a user's own that has the packages of another one, by a line in a ``.pth`` file."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-Im", "venv", "--without-pip", folder], check=True, timeout=60)
    (packages,) = folder.glob("lib/python*/site-packages")
    (theirs,) = Path(environment_python).parents[1].glob("lib/python*/site-packages")
    (packages / "theirs.pth").write_text(f"{theirs}\n")
    return folder


def test_model_of_an_added_environment_serves(user: Deployment, server: Moorage, wine: Wine, venv: Path) -> None:
    added = server.run("images", "add", "my/env", "--python", str(venv / "bin/python"), "--toolkit", "sklearn")
    assert "served like sklearn" in added.stdout
    model = user.model("mine", wine.artefact("forest"), Image="my/env")
    user.in_service("mine", ("blue", model, 1.0, 1))
    answer, _variant = user.invoke("mine", wine.csv(0, 1, 2))
    assert answer == str(wine.answers["forest"][:3])
    (image,) = user.sagemaker.describe_endpoint(EndpointName="mine")["ProductionVariants"][0]["DeployedImages"]
    assert image["SpecifiedImage"] == "my/env"
    assert image["ResolvedImage"].startswith("my/env@sha256:")
    user.delete("mine")


def test_requirements_lie_over_the_python_of_a_uri_of_awss_which_stays_as_it_is(
    user: Deployment, server: Moorage, venv: Path, tmp_path: Path
) -> None:
    uri = f"{AWS}/sagemaker-scikit-learn:9.9-1-cpu-py3"
    server.run("images", "add", "sagemaker-scikit-learn:9.9", "--python", str(venv / "bin/python"))
    before = sorted(venv.rglob("*"))
    wheel = write_wheel(tmp_path, "extra", files={"extra.py": "ANSWER = 42"})
    code = {
        "word": b"hello",
        "code/inference.py": TRANSFORM.encode(),
        "code/requirements.txt": f"--no-index\n./{wheel.name}\n".encode(),
        f"code/{wheel.name}": wheel.read_bytes(),
    }
    model = user.model("theirs", pack(code), Image=uri)
    user.in_service("theirs", ("blue", model, 1.0, 1))
    answer = user.runtime.invoke_endpoint(EndpointName="theirs", Body=b"x", ContentType="text/plain")["Body"].read()
    assert answer.decode().startswith("hello 42 ")
    assert sorted(venv.rglob("*")) == before
    user.delete("theirs")


def test_python_that_is_gone_fails_the_endpoint_and_says_why(user: Deployment, server: Moorage, venv: Path) -> None:
    server.run("images", "add", "gone/env", "--python", str(venv / "bin/python"), "--toolkit", "sklearn")
    model = user.model("gone", pack({"word": b"1"}), Image="gone/env")
    (venv / "bin/python").unlink()
    user.create("gone", ("blue", model, 1.0, 1))
    described = user.settled("gone")
    assert described["EndpointStatus"] == "Failed"
    assert "stands for the image gone/env" in described["FailureReason"]
    assert "images add gone/env --python PATH" in described["FailureReason"]
    user.delete("gone")
