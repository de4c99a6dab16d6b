"""Disks of instances, their encryption, and core dumps, as a user of boto3 has them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment, Wine
from tests.support.machine import MACHINE
from tests.support.product import wait_until
from tests.support.small_models import a_variant, serve

from moorage.engine.machine import Need

pytestmark = pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)

needs_disk = pytest.mark.skipif(Need.VOLUME in MACHINE.lacks, reason=MACHINE.lacks.get(Need.VOLUME, ""))
needs_encryption = pytest.mark.skipif(Need.ENCRYPTION in MACHINE.lacks, reason=MACHINE.lacks.get(Need.ENCRYPTION, ""))
needs_cores = pytest.mark.skipif(Need.CORE_FILES in MACHINE.lacks, reason=MACHINE.lacks.get(Need.CORE_FILES, ""))

FILLS = """
    import shutil

    def model_fn(model_dir):
        return None

    def input_fn(body, content_type):
        return int(body)

    def predict_fn(megabytes, model):
        try:
            with open("/tmp/x", "wb") as file:
                for _ in range(megabytes):
                    file.write(bytes(2**20))
        except OSError as fault:
            return str(fault)
        return f"of {shutil.disk_usage('/tmp').total} bytes"

    def output_fn(said, accept):
        return said, accept
"""

CRASHES = (
    models.INFERENCE
    + """
def predict_fn(rows, model):
    import ctypes
    print(model.predict(rows), flush=True)
    ctypes.string_at(0)
"""
)

SECRET = "the-secret-of-this-model"

KEEPS_A_SECRET = f"""
    def model_fn(model_dir):
        with open("/tmp/kept", "w") as file:
            file.write("{SECRET}" * 1000)
        return None

    def predict_fn(data, model):
        return data
"""


def volumes_of(deployment: Deployment) -> Path:
    return deployment.moorage.data_dir / "volumes"


@needs_disk
def test_model_that_fills_its_disk_gets_enospc_and_its_sibling_does_not(deployment: Deployment) -> None:
    model = deployment.model("disk-fills", models.code_only(FILLS))
    small, large = [a_variant(name, model, VolumeSizeInGB=size) for name, size in (("small", 1), ("large", 2))]
    serve(deployment, "disk-fills", small, large)

    said = {name: deployment.invoke("disk-fills", "1200", TargetVariant=name)[0] for name in ("small", "large")}

    assert "No space left on device" in said["small"]
    assert 0.98 * 2 * 2**30 < int(said["large"].split()[1]) <= 2 * 2**30
    described = deployment.sagemaker.describe_endpoint_config(EndpointConfigName="disk-fills")
    assert [variant["VolumeSizeInGB"] for variant in described["ProductionVariants"]] == [1, 2]
    deployment.delete("disk-fills")
    wait_until(lambda: not list(volumes_of(deployment).iterdir()), within=20, what="no volume is left")


@needs_cores
def test_core_of_a_real_model_comes_to_its_bucket_and_opens_in_gdb(
    deployment: Deployment, wine: Wine, environment_python: str, tmp_path: Path
) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    deployment.s3.create_bucket(Bucket="core-dumps")
    model = deployment.model("dumps", models.trained(wine.folder, "forest", CRASHES))
    serve(deployment, "dumps", a_variant("v", model, CoreDumpConfig={"DestinationS3Uri": "s3://core-dumps/cores"}))

    with pytest.raises(ClientError, match="ModelError"):
        deployment.invoke("dumps", wine.csv(0, 1))

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = deployment.s3.list_objects_v2(Bucket="core-dumps").get("Contents", [])
        return found

    (core,) = wait_until(listed, within=30, what="the core dump is in its bucket")
    prefix, _, name = core["Key"].rpartition("/")
    assert prefix.startswith("cores/dumps/v/i-")
    program, pid = name.split(".")[1:3]
    assert program == "moorage-model"
    deployment.s3.download_file("core-dumps", core["Key"], str(tmp_path / "core"))
    said = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "bt", environment_python, str(tmp_path / "core")],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "Program terminated with signal SIGSEGV" in said
    assert "_PyEval" in said or "ctypes" in said or "ffi_call" in said, said
    logs = deployment.moorage.run("logs", "dumps/v").stdout
    assert f"core dump of process {pid} (SIGSEGV): s3://core-dumps/{core['Key']}" in logs
    deployment.delete("dumps")


@needs_encryption
def test_what_a_model_writes_is_nowhere_in_plain_with_a_key(deployment: Deployment) -> None:
    kms = deployment.moorage.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    model = deployment.model("secret", models.code_only(KEEPS_A_SECRET))
    serve(deployment, "secret", a_variant("v", model), KmsKeyId=key)
    (place,) = volumes_of(deployment).iterdir()
    assert (place / "disk" / "data" / "tmp" / "kept").read_text().startswith(SECRET)
    subprocess.run(["sync", "-f", str(place / "disk")], check=True)

    image = place / "image"

    with image.open("rb") as file:
        assert SECRET.encode() not in file.read(2**28)
    assert deployment.invoke("secret", "1,2\n3,4")[0]
    deployment.delete("secret")
    wait_until(lambda: not place.exists(), within=20, what="the volume is gone")
