"""Models of any image, through the whole product: boto3's CreateModel with a URI of a registry, InService, invoke."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.containers import docker
from tests.support.dockerd import daemon, needs_docker
from tests.support.fixtures import Deployment
from tests.support.images import BINDS, litserve_image, python_image
from tests.support.machine import MACHINE
from tests.support.models import pack
from tests.support.product import IMAGE, ROLE, Moorage, running, wait_until
from tests.support.registry import Registry, needs_registry, registry
from tests.support.small_models import a_variant, serve

from moorage.base.settings import run_dir_of
from moorage.engine.docker.daemon import Daemon
from moorage.engine.machine import Need

__all__ = ["daemon"]

pytestmark = [needs_docker, needs_registry]

needs_disk = pytest.mark.skipif(Need.VOLUME in MACHINE.lacks, reason=MACHINE.lacks.get(Need.VOLUME, ""))
needs_cores = pytest.mark.skipif(Need.CORE_FILES in MACHINE.lacks, reason=MACHINE.lacks.get(Need.CORE_FILES, ""))

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="module")
def server(daemon: Daemon, shop: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moorage]:
    """Have a server beside a daemon, with a registry that stands in for AWS's."""
    settings = {
        "DOCKER_HOST": str(daemon.address),
        "MOORAGE_REGISTRY_MIRRORS": f'{{"*.dkr.ecr.*.amazonaws.com": "{shop.host}"}}',
        "MOORAGE_STOP_GRACE_SECONDS": "2",
    }
    with running(tmp_path_factory.mktemp("moorage") / "data", **settings) as made:
        yield made
    assert containers_of(daemon, made) == []


@pytest.fixture(scope="module")
def user(server: Moorage) -> Deployment:
    return Deployment(server)


def test_image_of_a_registry_is_served_by_the_uri_that_it_has_on_aws(user: Deployment, shop: Registry) -> None:
    digest = python_image(Labels={"for": "product"}).push(shop, "churn", "3")
    model = user.model("churn", pack({"weights": b"42"}), Image=f"{ECR}/churn:3")
    user.in_service("churn", ("blue", model, 1.0, 1))
    assert invoke(user, "churn", "sys.argv[1:], open('/opt/ml/model/weights').read()") == "(['serve'], '42')"
    described = user.sagemaker.describe_endpoint(EndpointName="churn")
    (image,) = described["ProductionVariants"][0]["DeployedImages"]
    assert image["SpecifiedImage"] == f"{ECR}/churn:3"
    assert image["ResolvedImage"] == f"{ECR}/churn@{digest}"
    user.delete("churn")


def test_instances_of_a_deployment_run_one_digest_also_when_the_tag_has_moved(user: Deployment, shop: Registry) -> None:
    python_image(Labels={"release": "1"}, Env=["PATH=/usr/local/bin:/bin", "RELEASE=1"]).push(shop, "moving", "latest")
    model = user.model("moving", pack({"weights": b"1"}), Image=f"{ECR}/moving")
    user.in_service("moving", ("blue", model, 1.0, 1))
    python_image(Labels={"release": "2"}, Env=["PATH=/usr/local/bin:/bin", "RELEASE=2"]).push(shop, "moving", "latest")
    user.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="moving", DesiredWeightsAndCapacities=[{"VariantName": "blue", "DesiredInstanceCount": 2}]
    )
    assert user.settled("moving")["EndpointStatus"] == "InService"
    seen: dict[str, str] = {}

    def both_have_answered() -> bool:
        name, release = invoke(user, "moving", "socket.gethostname() + ' ' + os.environ['RELEASE']").strip("'").split()
        peer = invoke(user, "moving", "open('/proc/self/mountinfo').read().split('upperdir=')[1][:200]")
        seen[peer] = f"{name} {release}"
        return len(seen) == 2

    wait_until(both_have_answered, within=30, what="both instances have answered")
    assert set(seen.values()) == {"container-0.local 1"}
    user.delete("moving")


def test_image_of_awss_that_the_daemon_has_is_run_itself_and_not_what_is_built_in(
    user: Deployment, shop: Registry, daemon: Daemon
) -> None:
    repository, _, tag = IMAGE.partition("/")[2].partition(":")
    digest = python_image(Labels={"for": "very image"}).push(shop, repository, tag)
    docker(daemon, "pull", "--quiet", f"{shop.host}/{repository}:{tag}")
    model = user.model("very", pack({"weights": b"42"}), Image=IMAGE)
    user.in_service("very", ("blue", model, 1.0, 1))
    assert invoke(user, "very", "sys.argv[1:]") == "['serve']"
    (image,) = user.sagemaker.describe_endpoint(EndpointName="very")["ProductionVariants"][0]["DeployedImages"]
    assert image["ResolvedImage"] == f"{IMAGE.partition(':')[0]}@{digest}"
    user.delete("very")


def test_images_of_a_pipeline_listen_where_they_are_told(user: Deployment, shop: Registry) -> None:
    python_image(Labels=BINDS).push(shop, "duo", "1")
    python_image(Labels={"for": "no port"}).push(shop, "stubborn", "1")
    image = f"{ECR}/duo:1"
    model = user.several("duo", (image, pack({"weights": b"42"}), "a"), (image, None, "b"))
    user.in_service("duo", ("blue", model, 1.0, 1))
    what = "type('', (), {'__repr__': lambda _: 'os.environ[\"SAGEMAKER_BIND_TO_PORT\"], socket.gethostname()'})()"
    assert invoke(user, "duo", what) == "('8081', 'b')"
    user.delete("duo")
    user.create("stubborn", ("blue", user.several("stubborn", *[(f"{ECR}/stubborn:1", None, "")] * 2), 1.0, 1))
    reason = user.settled("stubborn")["FailureReason"]
    assert "does not contain required com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in reason
    user.delete("stubborn")


def test_image_that_no_registry_has_fails_the_endpoint_and_says_why(user: Deployment) -> None:
    model = user.model("nothing", pack({"weights": b"1"}), Image=f"{ECR}/nothing:1")
    user.create("nothing", ("blue", model, 1.0, 1))
    described = user.settled("nothing")
    assert described["EndpointStatus"] == "Failed"
    assert "nothing:1 could not be pulled" in described["FailureReason"]
    user.delete("nothing")


def test_isolated_model_is_served_and_reaches_nobody(user: Deployment, shop: Registry) -> None:
    python_image(Labels={"for": "isolation"}).push(shop, "shy", "1")
    user.model("shy-data", pack({"weights": b"1"}), Image=f"{ECR}/shy:1")
    container = {"Image": f"{ECR}/shy:1", "ModelDataUrl": "s3://models-shy-data/model.tar.gz"}
    user.sagemaker.create_model(
        ModelName="shy", ExecutionRoleArn=ROLE, PrimaryContainer=container, EnableNetworkIsolation=True
    )
    user.in_service("shy", ("blue", "shy", 1.0, 1))
    assert "unreachable" in invoke(user, "shy", "socket.create_connection(('1.1.1.1', 443), 5)")
    user.delete("shy")


@needs_disk
def test_container_that_fills_its_disk_gets_enospc_and_answers_on(user: Deployment, shop: Registry) -> None:
    python_image(Labels={"for": "disk"}).push(shop, "hoarder", "1")
    model = user.model("hoarder", pack({"weights": b"1"}), Image=f"{ECR}/hoarder:1")
    serve(user, "hoarder", a_variant("blue", model, VolumeSizeInGB=1))
    fill = "[open('/var/log/full', 'ab').write(bytes(2**20)) for _ in range(1200)]"
    assert "No space left on device" in invoke(user, "hoarder", fill)
    assert "No space left on device" in invoke(user, "hoarder", "open('/tmp/more', 'wb').write(bytes(2**20))")
    assert invoke(user, "hoarder", "6 * 7") == "42"
    user.delete("hoarder")


@needs_cores
def test_core_of_a_container_that_crashes_comes_to_its_bucket(user: Deployment, shop: Registry) -> None:
    python_image(Labels={"for": "cores"}).push(shop, "crasher", "1")
    model = user.model("crasher", pack({"weights": b"1"}), Image=f"{ECR}/crasher:1")
    user.s3.create_bucket(Bucket="docker-cores")
    serve(user, "crasher", a_variant("blue", model, CoreDumpConfig={"DestinationS3Uri": "s3://docker-cores/here"}))
    with pytest.raises(user.runtime.exceptions.ModelError):
        invoke(user, "crasher", "ctypes.string_at(0)")

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = user.s3.list_objects_v2(Bucket="docker-cores").get("Contents", [])
        return found

    (core,) = wait_until(listed, within=30, what="the core dump is in its bucket")
    assert core["Key"].startswith("here/crasher/blue/i-")
    assert user.s3.get_object(Bucket="docker-cores", Key=core["Key"])["Body"].read(4) == b"\x7fELF"
    user.delete("crasher")


@pytest.mark.slow  # the first time it is downloaded
def test_server_of_a_third_party_is_served_unmodified(user: Deployment, shop: Registry) -> None:
    litserve_image().push(shop, "litserve", "1")
    model = user.model("lit", pack({"factor.json": b"7"}), Image=f"{ECR}/litserve:1")
    user.in_service("lit", ("blue", model, 1.0, 1))
    answer = user.runtime.invoke_endpoint(EndpointName="lit", Body=b'{"input": 6}', ContentType="application/json")
    assert answer["Body"].read() == b'{"output":42}'
    user.delete("lit")


def test_container_that_dies_is_replaced_and_a_killed_server_leaves_nothing_to_its_next_start(
    daemon: Daemon, shop: Registry, tmp_path: Path
) -> None:
    python_image(Labels={"for": "kill"}).push(shop, "kill", "1")
    settings = {"DOCKER_HOST": str(daemon.address)}
    server = Moorage(tmp_path / "data", environment=settings).start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        user = Deployment(server)
        model = user.model("kill", pack({"weights": b"1"}), Image=f"{shop.host}/kill:1")
        user.in_service("kill", ("blue", model, 1.0, 1))
        (first,) = containers_of(daemon, server)
        docker(daemon, "kill", first)
        wait_until(lambda: containers_of(daemon, server) not in ([first], []), within=30, what="another one runs")
        wait_until(lambda: answers(user), within=30, what="another one answers")
        server.kill_everything()
        assert len(containers_of(daemon, server)) == 1
        server.start()
        wait_until(lambda: answers(Deployment(server)), within=30, what="the endpoint serves again")
        assert len(containers_of(daemon, server)) == 1
    assert containers_of(daemon, server) == []


def answers(user: Deployment) -> bool:
    with contextlib.suppress(user.runtime.exceptions.ClientError):
        return invoke(user, "kill", "6 * 7") == "42"
    return False


def invoke(user: Deployment, endpoint: str, expression: str) -> str:
    answer = user.runtime.invoke_endpoint(EndpointName=endpoint, Body=expression.encode(), ContentType="text/plain")
    said: bytes = answer["Body"].read()
    return said.decode()


def containers_of(daemon: Daemon, server: Moorage) -> list[str]:
    label = f"label=moorage.installation={run_dir_of(server.data_dir).name.removeprefix('moorage-')}"
    return docker(daemon, "ps", "--all", "--quiet", "--filter", label).split()
