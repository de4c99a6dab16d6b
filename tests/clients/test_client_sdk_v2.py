"""The SageMaker Python SDK 2, unmodified: ``SKLearnModel.deploy()``, ``Predictor``, what they do, data capture."""

import json
import re
from pathlib import Path

import pytest
from tests.support.client_environments import python_client, sdk_defaults
from tests.support.fixtures import Wine
from tests.support.made_once import BUILD_SECONDS
from tests.support.product import Moorage

OWN_CODE = """
import os

def model_fn(model_dir):
    return sorted(os.listdir(model_dir))

def predict_fn(data, model):
    return {"says": "ahoy", "rows": len(data), "has": model}
"""


@pytest.mark.slow  # installs the SDK when it is not in the cache; the SDK looks at an endpoint every 30 s
@pytest.mark.timeout(BUILD_SECONDS + 300)
@pytest.mark.client("SageMaker Python SDK v2")
def test_the_python_sdk_2_lives_one_whole_life(moorage: Moorage, wine: Wine, tmp_path: Path) -> None:
    client = python_client("sdk_v2")
    shown = [0, 15, 30]
    (tmp_path / "model.tar.gz").write_bytes(wine.artefact("forest"))
    (tmp_path / "rows.json").write_text(json.dumps([wine.rows[index] for index in shown]))
    (tmp_path / "own.py").write_text(OWN_CODE)
    expected = [wine.answers["forest"][index] for index in shown]

    seen = client.live(
        "sdk_v2_life.py", moorage, "model.tar.gz", "own.py", "rows.json", home=tmp_path, **sdk_defaults(tmp_path)
    )

    assert (seen["npy"], seen["csv"]) == (expected, expected)
    assert seen["copied_variants"] == [
        {
            "VariantName": "AllTraffic",
            "ModelName": "sdk-two",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.m5.large",
            "InitialVariantWeight": 1.0,
        }
    ]
    assert seen["copied_tags"] == [{"Key": "team", "Value": "cellar"}]
    assert (seen["after_update"], seen["instances"]) == (expected, 2)
    assert seen["package"].endswith(":model-package/sdk-two-packages/1")
    assert seen["registered"] == seen["csv"]
    assert seen["submitted"] == {"says": "ahoy", "rows": 3, "has": ["code", "model.joblib"]}
    assert seen["models_left"] == []
    assert "does not exist" in seen["endpoint_gone"]


@pytest.mark.slow  # installs the SDK when it is not in the cache
@pytest.mark.timeout(BUILD_SECONDS + 300)
@pytest.mark.client("SageMaker Python SDK v2")
def test_the_python_sdk_2_reads_what_was_captured(moorage: Moorage, wine: Wine, tmp_path: Path) -> None:
    client = python_client("sdk_v2")
    (tmp_path / "model.tar.gz").write_bytes(wine.artefact("forest"))
    (tmp_path / "rows.json").write_text(json.dumps(wine.rows[:2]))

    seen = client.live(
        "sdk_v2_capture.py", moorage, "model.tar.gz", "rows.json", home=tmp_path, **sdk_defaults(tmp_path)
    )

    destination = "s3://sdk-two-capture/model-monitor/data-capture"
    assert (seen["destination"], seen["described"]["DestinationS3Uri"]) == (destination, destination)
    assert (seen["described"]["CaptureStatus"], seen["described"]["CurrentSamplingPercentage"]) == ("Started", 100)
    assert seen["answers"] == [wine.answers["forest"][:2]] * 3
    layout = (
        rf"{destination}/sdk-two-capture/AllTraffic/\d{{4}}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{{3}}-[0-9a-f-]{{36}}\.jsonl"
    )
    assert [re.fullmatch(layout, uri) is not None for uri in seen["files"]] == [True]
    records = seen["records"]
    assert [record["eventMetadata"]["inferenceId"] for record in records] == ["id-0", "id-1", "id-2"]
    sides = [record["captureData"] for record in records]
    assert {(one["endpointInput"]["data"], one["endpointInput"]["encoding"]) for one in sides} == {
        (wine.csv(0, 1), "CSV")
    }
    assert [json.loads(one["endpointOutput"]["data"]) for one in sides] == seen["answers"]
    assert {(one["endpointOutput"]["encoding"], one["endpointOutput"]["mode"]) for one in sides} == {("JSON", "OUTPUT")}


@pytest.mark.slow  # installs the SDK when it is not in the cache
@pytest.mark.timeout(BUILD_SECONDS + 300)
@pytest.mark.client("SageMaker Python SDK v2")
def test_the_python_sdk_2_has_many_models_on_one_endpoint(moorage: Moorage, wine: Wine, tmp_path: Path) -> None:
    client = python_client("sdk_v2")
    for name in ("forest", "logistic"):
        (tmp_path / f"{name}.tar.gz").write_bytes(wine.artefact(name))
    shown = [0, 15, 30]
    (tmp_path / "rows.json").write_text(json.dumps([wine.rows[index] for index in shown]))

    seen = client.live(
        "sdk_v2_multi.py",
        moorage,
        "forest.tar.gz",
        "logistic.tar.gz",
        "rows.json",
        home=tmp_path,
        **sdk_defaults(tmp_path),
    )

    assert seen["first"] == [wine.answers["forest"][index] for index in shown]
    assert seen["second"] == [wine.answers["logistic"][index] for index in shown]
    assert seen["listed"] == ["first.tar.gz", "team/second.tar.gz"]
    assert seen["mode"] == "MultiModel"
