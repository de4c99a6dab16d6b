"""Deploying one artefact through the API, as a script with boto3 would, and watching it come up."""

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from moorage.aws.errors import ServiceError
from moorage.aws.shapes import load_service
from moorage.aws.validate import check
from moorage.base.clock import SystemClock
from moorage.cli.client import ApiError, Client
from moorage.cli.present import advice_lines, duration, size

DEFAULT_IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
_INSTANCE_TYPE = "ml.m5.large"
_VARIANT = "AllTraffic"
"""What the SageMaker SDK calls a variant that is alone."""
_LOOK_AGAIN_SECONDS = 0.1
_NAME_BEFORE_VERSION = 50
"""Characters of the endpoint's name that a model's name of at most 63 has room for."""
_GONE_WITHIN_SECONDS = 120.0
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A ``model.tar.gz`` on this machine."""

    path: Path
    sha256: str
    bytes: int


def read_artifact(path: Path) -> Artifact:
    """Look at an artefact; what is no ``.tar.gz`` is refused before anything is started."""
    try:
        with path.open("rb") as file:
            if file.read(2) != _GZIP:
                raise click.ClickException(
                    f"{path} is not a .tar.gz. Pack the model's files with: tar -czf model.tar.gz -C FOLDER ."
                )
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise click.ClickException(f"{path} cannot be read: {fault.strerror}") from fault
    return Artifact(path, digest, path.stat().st_size)


def default_name(path: Path) -> str:
    """Make an endpoint's name of a file's: ``iris.tar.gz`` is ``iris``; ``model.tar.gz`` is named by its folder."""
    stem = path.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    if stem == "model":
        stem = path.absolute().parent.name or stem
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem)
    return "-".join(part for part in name.split("-") if part)[:40].strip("-") or "model"


def check_name(name: str) -> None:
    """Refuse what the API's model lets no endpoint be called, before anything is started or uploaded."""
    try:
        check(load_service("sagemaker").operations["DescribeEndpoint"].input, {"EndpointName": name})
    except ServiceError as fault:
        text = "up to 63 letters, digits and hyphens, neither the first nor the last of them a hyphen"
        raise click.BadParameter(f"{name!r} is no name for an endpoint: {text}.", param_hint="--name") from fault


def deploy(  # noqa: PLR0913 - what a deployment consists of
    client: Client,
    artifact: Artifact,
    *,
    name: str,
    image: str,
    account: str,
    server_option: str,
    show: Callable[[Sequence[str]], None],
) -> bool:
    """Make the endpoint and wait until it is in service; raises ClickException when it fails.

    One that has failed is replaced. False: it was in service already, with the same artefact and image.
    ``server_option``: what commands need to find this server, `` --data-dir DIR`` or nothing.
    """
    # The same artefact and image give the same name: what a failed attempt has left is used again.
    version = hashlib.sha256(f"{artifact.sha256} {image}".encode()).hexdigest()[:12]
    unique = f"{name[:_NAME_BEFORE_VERSION].rstrip('-')}-{version}"
    if found := _describe(client, name):
        if found["EndpointStatus"] == "InService" and found["EndpointConfigName"] == unique:
            return False
        if found["EndpointStatus"] != "Failed":
            raise _taken(found, artifact.path, server_option)
        show([f"{name} has failed and is replaced"])
        _delete(client, name)
    show([f"uploading {artifact.path.name} ({size(artifact.bytes)})"])
    bucket, key = f"moorage-{account}-models", f"{name}/{artifact.sha256[:12]}/model.tar.gz"
    client.make_bucket(bucket)
    client.upload(bucket, key, artifact.path, artifact.sha256)
    _create(
        client,
        "CreateModel",
        ModelName=unique,
        PrimaryContainer={"Image": image, "ModelDataUrl": f"s3://{bucket}/{key}"},
        ExecutionRoleArn=f"arn:aws:iam::{account}:role/moorage",
    )
    variant = {
        "VariantName": _VARIANT,
        "ModelName": unique,
        "InstanceType": _INSTANCE_TYPE,
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }
    _create(client, "CreateEndpointConfig", EndpointConfigName=unique, ProductionVariants=[variant])
    client.call("CreateEndpoint", EndpointName=name, EndpointConfigName=unique)
    wait_in_service(client, name, show)
    return True


def _describe(client: Client, name: str) -> dict[str, Any] | None:
    """Describe the endpoint; None when there is none."""
    try:
        return client.call("DescribeEndpoint", EndpointName=name)
    except ApiError as fault:
        if "Could not find" not in str(fault):
            raise
        return None


def _delete(client: Client, name: str) -> None:
    """Delete the endpoint and wait until it is gone."""
    clock = SystemClock()
    deadline = clock.monotonic() + _GONE_WITHIN_SECONDS
    client.call("DeleteEndpoint", EndpointName=name)
    while _describe(client, name):
        if clock.monotonic() > deadline:
            raise click.ClickException(
                f"{name} is still being deleted after {_GONE_WITHIN_SECONDS:g} s. Try again later."
            )
        clock.pause(_LOOK_AGAIN_SECONDS)


def _taken(endpoint: Mapping[str, Any], path: Path, server_option: str) -> click.ClickException:
    """Say what to do when the name is taken."""
    name, status = endpoint["EndpointName"], endpoint["EndpointStatus"]
    what = f"There is already an endpoint named {name} ({status})"
    beside = f"  beside it   moorage run {shlex.quote(str(path))} --name {name}-2{server_option}"
    if status == "Deleting":
        return click.ClickException(f"{what}. Wait until it is gone and do the same again, or:\n{beside}")
    other = " of another artefact or image" if status == "InService" else ""
    return click.ClickException(
        f"{what}{other}.\n"
        f"  use it      moorage invoke {name} --body @row.csv{server_option}\n"
        f"{beside}\n"
        f'  replace it  eval "$(moorage env{server_option})"\n'
        f"              aws sagemaker delete-endpoint --endpoint-name {name}\n"
        f"              aws sagemaker wait endpoint-deleted --endpoint-name {name}\n"
        f"              and the same again"
    )


def _create(client: Client, operation: str, **members: Any) -> None:
    try:
        client.call(operation, **members)
    except ApiError as fault:
        if "already existing" not in str(fault):
            raise


def wait_in_service(client: Client, name: str, show: Callable[[Sequence[str]], None]) -> None:
    """Show how the endpoint comes up, a line each variant; raises ClickException when it fails."""
    clock = SystemClock()
    started = clock.monotonic()
    while True:
        endpoint = client.call("DescribeEndpoint", EndpointName=name)
        instances = client.own("GET", "/_moorage/instances")["instances"]
        show(progress_lines(endpoint, instances, clock.monotonic() - started))
        if endpoint["EndpointStatus"] == "InService":
            return
        if endpoint["EndpointStatus"] != "Creating":
            reason = endpoint.get("FailureReason", "no reason was given")
            lines = advice_lines(reason, name, failed=endpoint["EndpointStatus"] == "Failed")
            raise click.ClickException("\n".join([f"{name} is {endpoint['EndpointStatus']}: {reason}", *lines]))
        clock.pause(_LOOK_AGAIN_SECONDS)


def progress_lines(endpoint: Mapping[str, Any], instances: Sequence[Mapping[str, Any]], seconds: float) -> list[str]:
    """Make the lines: what each variant's instances are doing."""
    status = endpoint["EndpointStatus"]
    lines = [f"{endpoint['EndpointName']}  {status}  {duration(seconds)}" if status == "InService" else ""]
    for variant in endpoint.get("ProductionVariants") or [{"VariantName": _VARIANT}]:
        mine = [
            instance
            for instance in instances
            if instance["endpoint"] == endpoint["EndpointName"] and instance["variant"] == variant["VariantName"]
        ]
        doing = sorted({instance["message"] or instance["state"] for instance in mine})
        if not doing and status == "Creating":
            doing = ["waiting"]
        name = f"{endpoint['EndpointName']}/{variant['VariantName']}"
        lines.append(f"{name}  {status}  {', '.join(doing)}".rstrip())
    return [line for line in lines if line]
