"""The resources of the SageMaker Python SDK 3, unmodified: create, get, list, wait, invoke, update, delete."""

from pathlib import Path

import pytest
from tests.support.client_environments import python_client, sdk_defaults
from tests.support.fixtures import Deployment, Wine
from tests.support.made_once import BUILD_SECONDS
from tests.support.product import IMAGE

ARN = "arn:aws:sagemaker:us-east-1:000000000000:endpoint/sdk-three"


@pytest.mark.slow  # installs the SDK when it is not in the cache; starts instances
@pytest.mark.timeout(BUILD_SECONDS + 300)
@pytest.mark.client("SageMaker Python SDK v3")
def test_the_python_sdk_3_lives_one_whole_life(deployment: Deployment, wine: Wine, tmp_path: Path) -> None:
    client = python_client("sdk_v3")
    shown = [0, 15, 30]
    deployment.s3.create_bucket(Bucket="sdk-three")
    deployment.s3.put_object(Bucket="sdk-three", Key="model.tar.gz", Body=wine.artefact("forest"))
    (tmp_path / "rows.csv").write_text(wine.csv(*shown))

    seen = client.live(
        "sdk_v3_life.py", deployment.moorage, "s3://sdk-three/model.tar.gz", IMAGE, "rows.csv",
        home=tmp_path, **sdk_defaults(tmp_path),
    )  # fmt: skip

    assert (seen["at_once"], seen["settled"]) == ("Creating", "InService")
    assert seen["variants"] == [["left", 1.0], ["right", 2.0]]
    assert (seen["answer"], seen["by"]) == ([wine.answers["forest"][index] for index in shown], "right")
    assert seen["refused"] == "ModelError"
    assert seen["by_token"] == seen["answer"]
    assert seen["after_update"] == ["left"]
    assert seen["got"] == [{"GREETING": "ahoy"}, "right", ARN]
    assert seen["all"] == [["sdk-three"], ["sdk-three"], ["sdk-three"]]
    assert seen["left"] == []
    assert seen["gone"] == f'Could not find endpoint "{ARN}".'
