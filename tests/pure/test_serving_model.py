"""Where the customer's code is looked for."""

from pathlib import Path

import pytest

from moorage.serving.customer import MissingCode, code_folder


@pytest.mark.parametrize(
    ("submitted", "folder"),
    [
        ("", "/data/model/code"),
        ("/opt/ml/model/code", "/data/model/code"),
        ("/opt/ml/model/src", "/data/model/src"),
        ("/opt/program", "/opt/program"),
        ("s3://bucket/sourcedir.tar.gz", "/data/model/code"),
    ],
)
def test_code_is_in_the_artefact_unless_another_folder_is_named(submitted: str, folder: str) -> None:
    assert code_folder("/data/model", submitted) == Path(folder)


def test_code_elsewhere_is_refused_with_what_to_do() -> None:
    with pytest.raises(MissingCode, match="put it into the folder code of model"):
        code_folder("/data/model", "https://bucket/sourcedir.tar.gz")
