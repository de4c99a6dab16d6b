"""The whole product behind TLS: unmodified clients with ``AWS_CA_BUNDLE``, our own commands, two gateways."""

import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.support.certificates import Files, make_certificate, make_issued_certificate, trusting
from tests.support.fixtures import Deployment, Wine
from tests.support.product import Moorage, running, wait_until

pytestmark = pytest.mark.slow  # starts whole servers


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_certificate(tmp_path_factory.mktemp("certificates"), "server")


@pytest.fixture(scope="module")
def secured(files: Files, environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moorage]:
    options = ("--gateways", "2", "--tls-cert", str(files.cert), "--tls-key", str(files.key))
    with running(tmp_path_factory.mktemp("tls") / "data", *options) as server:
        yield server
    log = (server.data_dir / "logs" / "moorage.log").read_text()
    assert "Traceback" not in log


def test_boto3_and_our_commands_live_a_whole_life(secured: Moorage, wine: Wine, tmp_path: Path) -> None:
    assert secured.server()["url"].startswith("https://127.0.0.1:")
    deployment = Deployment(secured)
    deployment.in_service("e", ("only", deployment.model("m", wine.artefact("logistic")), 1, 1))
    assert json.loads(deployment.invoke("e", wine.csv(0, 1))[0]) == wine.answers["logistic"][:2]
    (tmp_path / "rows.csv").write_text(wine.csv(0, 1))
    invoked = secured.run("invoke", "e", "--body", f"@{tmp_path / 'rows.csv'}", "--content-type", "text/csv")
    assert json.loads(invoked.stdout) == wine.answers["logistic"][:2]
    assert "e " in secured.run("ls").stdout


def test_the_aws_cli_needs_nothing_but_our_exports(secured: Moorage, tmp_path: Path) -> None:
    aws = partial(secured.aws, tmp_path)
    (tmp_path / "file").write_bytes(b"x" * 9_000_000)  # in several parts
    aws("s3", "mb", "s3://over-tls")
    aws("s3", "cp", str(tmp_path / "file"), "s3://over-tls/key")
    aws("s3", "cp", "s3://over-tls/key", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    assert "Models" in json.loads(aws("sagemaker", "list-models"))


def test_doctor_says_how_long_the_certificate_is_valid(secured: Moorage, files: Files) -> None:
    checks = json.loads(secured.run("doctor", "--output", "json", check=False).stdout)
    (certificate,) = [check for check in checks if check["name"] == "certificate"]
    assert certificate["state"] == "ok"
    assert certificate["found"].startswith(f"{files.cert}, valid for 29 days")


@pytest.mark.parametrize("service", ["sagemaker", "s3", "sts"])
def test_policies_see_that_the_transport_is_secure(secured: Moorage, tmp_path: Path, service: str) -> None:
    """The common rule that refuses whatever is not encrypted."""
    rule = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }
    (tmp_path / "rule.json").write_text(json.dumps(rule))
    options = ("--policy", str(tmp_path / "rule.json"), "--output", "json")
    key = json.loads(secured.run("keys", "create", "--user", f"careful-{service}", *options).stdout)
    client: Any = boto3.session.Session().client(
        service,
        endpoint_url=secured.server()["url"],
        verify=secured.server()["ca_bundle"],
        region_name="us-east-1",
        aws_access_key_id=key["access_key_id"],
        aws_secret_access_key=key["secret_access_key"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    match service:
        case "sagemaker":
            assert "Models" in client.list_models()
        case "s3":
            assert "Buckets" in client.list_buckets()
        case _:
            assert client.assume_role(RoleArn="arn:aws:iam::000000000000:role/r", RoleSessionName="tester")


def test_a_new_certificate_is_in_use_in_every_gateway_without_a_restart(
    files: Files, environment_python: str, tmp_path: Path
) -> None:
    own = Files(tmp_path / "own.pem", tmp_path / "own.key")
    own.replace(files)
    new = make_certificate(tmp_path, "new")
    options = ("--gateways", "2", "--tls-cert", str(own.cert), "--tls-key", str(own.key))
    with running(tmp_path / "data", *options) as moorage:
        gateways = moorage.pids("gateway")
        own.replace(new)
        trusted = trusting(new.cert)

        def shown() -> bool:
            try:
                with (
                    socket.create_connection(("127.0.0.1", moorage.port), timeout=10) as raw,
                    trusted.wrap_socket(raw, server_hostname="127.0.0.1"),
                ):
                    return True
            except ssl.SSLCertVerificationError:
                return False

        wait_until(lambda: all(shown() for _ in range(32)), within=15, what="both gateways show the new certificate")
        assert moorage.pids("gateway") == gateways
        assert moorage.run("ls").returncode == 0
        os.kill(gateways[0], signal.SIGKILL)  # the supervisor still has the old one
        wait_until(lambda: all(shown() for _ in range(32)), within=15, what="its successor shows the new one too")


def test_a_certificate_of_an_authority_is_no_bundle(environment_python: str, tmp_path: Path) -> None:
    issued, authority = make_issued_certificate(tmp_path, "issued")
    with running(tmp_path / "data", "--tls-cert", str(issued.cert), "--tls-key", str(issued.key)) as moorage:
        assert "AWS_CA_BUNDLE" not in moorage.exports()
        assert moorage.run("ls").returncode == 0
        client = boto3.client(
            "s3",
            endpoint_url=moorage.server()["url"],
            verify=str(authority),
            region_name="us-east-1",
            aws_access_key_id=moorage.exports()["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=moorage.exports()["AWS_SECRET_ACCESS_KEY"],
        )
        assert client.list_buckets()["Buckets"] == []


def test_files_that_do_not_fit_are_an_error_before_anything_starts(files: Files, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other")
    moorage = Moorage(tmp_path / "data")
    started = moorage.run("up", "--tls-cert", str(files.cert), "--tls-key", str(other.key), check=False)
    assert started.returncode == 1
    assert started.stderr == f"Error: The key in {other.key} does not belong to the certificate in {files.cert}.\n"
    alone = moorage.run("up", "--tls-cert", str(files.cert), check=False)
    assert "--tls-key is missing" in alone.stderr
    assert not (tmp_path / "data").exists()
