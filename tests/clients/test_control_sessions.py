"""boto3 with temporary credentials against the control plane alone: those that are good, and those that have ended."""

import time
from pathlib import Path
from typing import Any

import boto3
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.support.control import KEY_ID, ControlPlane, control_plane

from moorage.aws.credentials import Session
from moorage.iam.sessions import make_token
from moorage.routing.snapshot import Snapshot


def client_of_a_session(plane: ControlPlane, folder: Path, ends_in: float) -> Any:
    (snapshot,) = folder.rglob("snapshot.json")
    token_secret = Snapshot.from_message(orjson.loads(snapshot.read_bytes())).token_secret
    session = Session(KEY_ID, time.time() - 900, time.time() + ends_in)
    secret, token = make_token(token_secret, "ASIATESTTESTTESTTEST", session)
    return boto3.client(
        "sagemaker",
        endpoint_url=plane.url,
        region_name="us-east-1",
        aws_access_key_id="ASIATESTTESTTESTTEST",
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_credentials_that_have_ended_are_refused_in_aws_words(tmp_path: Path) -> None:
    with control_plane(tmp_path) as plane:
        assert client_of_a_session(plane, tmp_path, ends_in=600).list_models()["Models"] == []
        with pytest.raises(ClientError) as caught:
            client_of_a_session(plane, tmp_path, ends_in=-1).list_models()
    error = caught.value.response["Error"]
    assert (error["Code"], error["Message"]) == (
        "ExpiredTokenException",
        "The security token included in the request is expired",
    )
