"""boto3, the newest and one of 2024, each with its own waiters and paginators."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.client_environments import PythonClient, python_client
from tests.support.fixtures import Wine
from tests.support.product import IMAGE, Moorage

ARN = "arn:aws:sagemaker:us-east-1:000000000000"


def life(client: PythonClient, name: str, moorage: Moorage, wine: Wine, home: Path) -> Any:
    (home / "model.tar.gz").write_bytes(wine.artefact("forest"))
    (home / "rows.csv").write_text(wine.csv(0, 15, 30))
    seen = client.live("boto3_life.py", moorage, name, "model.tar.gz", IMAGE, "rows.csv", home=home)
    answers = wine.answers["forest"]
    models = [name, *(f"{name}-{number}" for number in range(1, 5))]
    assert seen["at_once"] in ("Creating", "InService")
    assert (seen["answer"], seen["by"]) == ([answers[0], answers[15], answers[30]], "right")
    assert seen["models"] == [models[:2], models[2:4], models[4:]]
    assert seen["configs"] == [[f"{name}-2", f"{name}-1"], [name]]
    assert (seen["endpoints"], seen["tags"], seen["cut"]) == ([name], 50, [3, 2])
    assert seen["weights"] == [0.25, 0.5]
    assert seen["updated_to"] == f"{name}-1"
    assert (seen["gone"], seen["not_invoked"]) == (["ValidationException", 400], "ValidationError")
    assert seen["twice"] == f'Cannot create already existing model "{ARN}:model/{name}".'
    return seen


@pytest.mark.slow  # starts instances twice
@pytest.mark.timeout(300)
@pytest.mark.client("boto3, newest")
def test_the_newest_boto3_lives_one_whole_life(moorage: Moorage, wine: Wine, tmp_path: Path) -> None:
    life(PythonClient(Path(sys.executable)), "boto3-new", moorage, wine, tmp_path)


@pytest.mark.slow  # installs boto3 1.34 when it is not in the cache; starts instances twice
@pytest.mark.timeout(600)
@pytest.mark.client("boto3 1.34")
def test_a_boto3_of_2024_lives_one_whole_life(moorage: Moorage, wine: Wine, tmp_path: Path) -> None:
    seen = life(python_client("boto3_old"), "boto3-old", moorage, wine, tmp_path)

    assert seen["version"].startswith("1.34.")
