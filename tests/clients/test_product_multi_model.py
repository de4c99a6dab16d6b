"""Multi-model endpoints as a user meets them: boto3, the built-in scikit-learn image, models in the embedded store."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.machine import MACHINE
from tests.support.product import IMAGE, ROLE, alive, running, wait_until

from moorage.engine.machine import Need

BUCKET = "many"
PREFIX = f"s3://{BUCKET}/fleet/"

NAMED = """
import os, sys

def model_fn(model_dir):
    name, size = (open(os.path.join(model_dir, file)).read() for file in ("name", "size"))
    weights = b"x" * int(size)
    print("LOADS", name, flush=True)
    return name, weights

def transform_fn(model, data, content_type, accept):
    name, _ = model
    if data == "pid":
        return str(os.getpid()), "text/plain"
    if data == "die":
        os._exit(9)
    if data == "where":
        return os.path.dirname(os.path.abspath(__file__)), "text/plain"
    if data == "write":
        try:
            open(os.path.join(os.path.dirname(__file__), "x"), "w")
        except OSError as fault:
            return fault.strerror, "text/plain"
    return f"{name} says {data}", "text/plain"
"""


SHOUTS = """
    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        text = data if isinstance(data, str) else bytes(data).decode()
        return text.upper(), "text/plain"
"""


class Fleet:
    """A multi-model endpoint, and the store that its models are in."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        self.deployment = deployment
        self.name = name

    def put(self, target: str, name: str = "", size: int = 0) -> None:
        files = {"name": (name or target.partition(".")[0]).encode(), "size": str(size).encode()}
        artefact = models.pack({**files, "code/inference.py": NAMED.encode()})
        self.deployment.s3.put_object(Bucket=BUCKET, Key=f"fleet/{target}", Body=artefact)

    def ask(self, target: str, body: str = "x", **more: Any) -> str:
        answer = self.deployment.runtime.invoke_endpoint(
            EndpointName=self.name, TargetModel=target, Body=body, ContentType="text/csv", **more
        )
        said: str = answer["Body"].read().decode()
        return said

    def loads(self, name: str) -> int:
        """Count how often a model was loaded, by the instances' logs."""
        return self.deployment.moorage.run("logs", self.name).stdout.count(f"LOADS {name}\n")


def deploy(
    deployment: Deployment,
    name: str,
    instance_type: str = "ml.m5.large",
    behind: tuple[dict[str, Any], ...] = (),
    config: dict[str, Any] | None = None,
    **members: Any,
) -> Fleet:
    """Make an endpoint of a multi-model container, and of these containers behind it; wait until it serves."""
    container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": PREFIX, **members}
    containers: dict[str, Any] = {"Containers": [container, *behind]} if behind else {"PrimaryContainer": container}
    deployment.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, **containers)
    variant = {"VariantName": "only", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": instance_type}
    deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **(config or {}))
    deployment.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    described = deployment.settled(name)
    assert described["EndpointStatus"] == "InService", described.get("FailureReason")
    return Fleet(deployment, name)


@pytest.fixture(scope="module", autouse=True)
def bucket(deployment: Deployment) -> None:
    deployment.s3.create_bucket(Bucket=BUCKET)


@pytest.fixture(scope="module")
def fleet(deployment: Deployment) -> Iterator[Fleet]:
    fleet = deploy(deployment, "fleet")
    for name in ("a", "b", "team/c"):
        fleet.put(f"{name}.tar.gz", name)
    yield fleet
    deployment.delete("fleet")


def processes(pid: int) -> list[int]:
    """Give a process's children."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_models_answer_by_their_names_and_new_ones_need_no_update(fleet: Fleet) -> None:
    fleet.put("new.tar.gz")
    assert fleet.ask("new.tar.gz") == "new says x"
    assert fleet.ask("team/c.tar.gz") == "team/c says x"
    assert fleet.ask("new.tar.gz", "y") == "new says y"
    assert fleet.loads("new") == 1
    with pytest.raises(ClientError) as missing:
        fleet.ask("late.tar.gz")
    assert missing.value.response["Error"]["Code"] == "ValidationError"
    assert "Failed to download model data(bucket: many, key: fleet/late.tar.gz)." in str(missing.value)
    fleet.put("late.tar.gz")
    assert fleet.ask("late.tar.gz") == "late says x"
    fleet.deployment.s3.delete_object(Bucket=BUCKET, Key="fleet/late.tar.gz")
    assert fleet.ask("late.tar.gz") == "late says x", "what is loaded is served"


def test_what_is_not_right_is_told(fleet: Fleet) -> None:
    with pytest.raises(ClientError, match="is missing a target model header"):
        fleet.deployment.runtime.invoke_endpoint(EndpointName=fleet.name, Body=b"x")
    with pytest.raises(ClientError, match="is not a key relative to"):
        fleet.ask("../a.tar.gz")
    fleet.deployment.s3.put_object(
        Bucket=BUCKET,
        Key="fleet/broken.tar.gz",
        Body=models.pack({"code/inference.py": b"def model_fn(model_dir):\n    raise ValueError('no rudder')\n"}),
    )
    with pytest.raises(ClientError) as failed:
        fleet.ask("broken.tar.gz")
    assert failed.value.response["OriginalStatusCode"] == 500
    assert "ValueError: no rudder" in failed.value.response["OriginalMessage"]


def test_models_are_seen_read_only_where_the_contract_says(fleet: Fleet) -> None:
    engine = fleet.deployment.moorage.run("ps").stdout
    if "sandbox" in engine:
        where = fleet.ask("a.tar.gz", "where")
        assert where.startswith("/opt/ml/models/")
        assert where.endswith("/model/code")
        assert fleet.ask("a.tar.gz", "write") in {"Read-only file system", "Permission denied"}


def test_first_use_by_many_at_once_loads_once(fleet: Fleet) -> None:
    fleet.put("crowd.tar.gz")
    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(lambda _: fleet.ask("crowd.tar.gz"), range(32)))
    assert answers == {"crowd says x"}
    assert fleet.loads("crowd") == 1


def test_a_crash_of_one_model_is_only_its_own(fleet: Fleet) -> None:
    assert fleet.ask("b.tar.gz") == "b says x"
    loads = fleet.loads("b")
    with pytest.raises(ClientError) as crashed:
        fleet.ask("a.tar.gz", "die")
    assert crashed.value.response["Error"]["Code"] == "ModelError"
    assert fleet.ask("b.tar.gz") == "b says x"
    assert fleet.ask("a.tar.gz") == "a says x"
    assert fleet.loads("b") == loads
    assert fleet.deployment.sagemaker.describe_endpoint(EndpointName=fleet.name)["EndpointStatus"] == "InService"


def pids(fleet: Fleet) -> list[int]:
    return fleet.deployment.moorage.pids("instance", fleet.name)


@pytest.mark.slow  # ends instances
@pytest.mark.parametrize("who", ["base", "front"])
def test_kill_of_the_base_process_or_of_the_front_is_mended(deployment: Deployment, who: str) -> None:
    fleet = deploy(deployment, f"killed-{who}")
    fleet.put("k.tar.gz")
    assert fleet.ask("k.tar.gz") == "k says x"
    (base,) = pids(fleet)
    killed = base if who == "base" else front_of(fleet, base)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: (now := pids(fleet)) and now != [base], within=30, what="another instance")
    assert fleet.ask("k.tar.gz") == "k says x"
    deployment.delete(fleet.name)
    wait_until(lambda: not Path(f"/proc/{base}").exists(), within=10, what="the base process is gone")


def front_of(fleet: Fleet, base: int) -> int:
    """Give the front of an instance: it has the instance's socket, whose folder has that of the base process too."""
    (node,) = fleet.deployment.moorage.pids("node")
    fronts = [pid for pid in processes(node) if b"moorage.front" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return max(fronts)  # the one that was started last


@pytest.mark.slow  # 50 loads of some 350 MB
def test_fifty_models_in_a_memory_for_ten(deployment: Deployment) -> None:
    fleet = deploy(deployment, "small", "ml.t2.medium")  # 4 GiB
    names = [f"large{number}" for number in range(50)]
    for name in names:
        fleet.put(f"{name}.tar.gz", size=360_000_000)
    for name in names:
        assert fleet.ask(f"{name}.tar.gz") == f"{name} says x"
    assert fleet.ask(f"{names[-1]}.tar.gz") == f"{names[-1]} says x"
    assert fleet.loads(names[-1]) == 1
    assert fleet.ask(f"{names[0]}.tar.gz") == f"{names[0]} says x"
    assert fleet.loads(names[0]) == 2, "it had made room"
    (base,) = pids(fleet)
    loaded = [pid for pid in processes(base) if "VmRSS" in Path(f"/proc/{pid}/status").read_text()]
    assert 8 <= len(loaded) <= 11
    deployment.delete(fleet.name)


@pytest.mark.slow  # starts an instance
def test_without_a_cache_nothing_stays(deployment: Deployment) -> None:
    fleet = deploy(deployment, "uncached", MultiModelConfig={"ModelCacheSetting": "Disabled"})
    fleet.put("u.tar.gz")
    (base,) = pids(fleet)
    for _ in range(2):
        assert fleet.ask("u.tar.gz") == "u says x"
        wait_until(lambda: not processes(base), within=10, what="the model is unloaded")
    assert fleet.loads("u") == 2
    deployment.delete(fleet.name)


def test_kill_of_a_model_is_mended(fleet: Fleet) -> None:
    killed = process_of_b(fleet)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{killed}").exists(), within=10, what="it is gone")
    assert fleet.ask("b.tar.gz") == "b says x"


def process_of_b(fleet: Fleet) -> int:
    """Give the process of the model b on this machine: the youngest child of the base process that has its files."""
    fleet.ask("b.tar.gz")
    (base,) = pids(fleet)
    inner = fleet.ask("b.tar.gz", "pid")
    for pid in processes(base):
        ids = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:")]
        if ids[0].split()[-1] == inner:
            return pid
    raise AssertionError(f"no process {inner} below {base}")


@pytest.mark.slow  # starts an instance of two containers
def test_target_model_is_for_the_multi_model_container_of_a_pipeline(deployment: Deployment) -> None:
    behind = deployment.model("shouts", models.code_only(SHOUTS))
    container = deployment.sagemaker.describe_model(ModelName=behind)["PrimaryContainer"]
    fleet = deploy(deployment, "piped", behind=({key: container[key] for key in ("Image", "ModelDataUrl")},))
    for name in ("p", "q"):
        fleet.put(f"{name}.tar.gz")
        assert fleet.ask(f"{name}.tar.gz") == f"{name.upper()} SAYS X"
    with pytest.raises(ClientError, match="is missing a target model header"):
        deployment.runtime.invoke_endpoint(EndpointName="piped", Body=b"x")
    broken = models.pack({"code/inference.py": b"raise OSError('no rudder')"})
    deployment.s3.put_object(Bucket=BUCKET, Key="fleet/rudderless.tar.gz", Body=broken)
    with pytest.raises(ClientError, match=r"Received server error \(500\) from container-1"):
        fleet.ask("rudderless.tar.gz")
    deployment.delete("piped")


@pytest.mark.slow  # makes and encrypts a disk
@pytest.mark.skipif(Need.ENCRYPTION in MACHINE.lacks, reason=MACHINE.lacks.get(Need.ENCRYPTION, ""))
def test_models_of_an_encrypted_instance_are_on_its_disk_only(deployment: Deployment) -> None:
    kms = deployment.moorage.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    fleet = deploy(deployment, "sealed", config={"KmsKeyId": key})
    fleet.put("secret.tar.gz")
    assert fleet.ask("secret.tar.gz") == "secret says x"
    folder = deployment.moorage.data_dir / "models"
    assert not [path for path in folder.rglob("name") if path.read_bytes() == b"secret"]
    deployment.delete("sealed")


@pytest.mark.slow  # starts a server of its own
def test_plain_processes_serve_many_models_too(tmp_path: Path, environment_python: str) -> None:
    with running(tmp_path / "data", MOORAGE_ENGINE="process") as moorage:
        deployment = Deployment(moorage)
        deployment.s3.create_bucket(Bucket=BUCKET)
        fleet = deploy(deployment, "plain")
        for name in ("a", "b"):
            fleet.put(f"{name}.tar.gz")
            assert fleet.ask(f"{name}.tar.gz") == f"{name} says x"
        (base,) = pids(fleet)
        children = processes(base)
        assert len(children) == 2
        os.kill(base, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, children)), within=10, what="the models have gone with the base process")
