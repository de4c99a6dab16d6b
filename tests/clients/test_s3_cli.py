"""S3 through an unmodified AWS CLI v1."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tests.support.neighbours import ALICE, Neighbours, neighbours_in

MIB = 2**20

AWS = Path(sys.executable).with_name("aws")


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("n")) as running:
        yield running


def aws(neighbours: Neighbours, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(AWS), *arguments],
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": neighbours.url,
            "AWS_ACCESS_KEY_ID": ALICE.access_key_id,
            "AWS_SECRET_ACCESS_KEY": ALICE.secret_access_key,
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow  # starts the AWS CLI, which takes a second each time, eight times
def test_the_life_of_a_folder(neighbours: Neighbours, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    (there / "a b").mkdir(parents=True)
    (there / "a b" / "small é.csv").write_bytes(b"1,2\n")
    (there / "big").write_bytes(os.urandom(9 * MIB))
    aws(neighbours, "s3", "mb", "s3://folder")
    aws(neighbours, "s3", "sync", str(there), "s3://folder/x")
    assert "PRE x/" in aws(neighbours, "s3", "ls", "s3://folder")
    aws(neighbours, "s3", "cp", "s3://folder/x/big", "s3://folder/copy")
    aws(neighbours, "s3", "sync", "s3://folder", str(back))
    assert (back / "x" / "a b" / "small é.csv").read_bytes() == b"1,2\n"
    assert (back / "copy").read_bytes() == (there / "big").read_bytes()
    url = aws(neighbours, "s3", "presign", "s3://folder/x/a b/small é.csv").strip()
    assert urllib3.request("GET", url).data == b"1,2\n"
    aws(neighbours, "s3", "rb", "--force", "s3://folder")
    assert aws(neighbours, "s3", "ls") == ""
