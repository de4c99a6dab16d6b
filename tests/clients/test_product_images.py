"""Models of any image on a machine without Docker: boto3's CreateModel with the image's URI, InService, invoke."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fixtures import Deployment
from tests.support.images import BINDS, litserve_image, python_image
from tests.support.models import pack
from tests.support.product import Moorage, alive, running, wait_until
from tests.support.registry import Registry, needs_registry, registry
from tests.support.without_docker import user, without_docker

from moorage.base.settings import run_dir_of
from moorage.engine.rootfs.maker import try_rooms

__all__ = ["user"]

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

FAULT = try_rooms(Path(tempfile.gettempdir()))
pytestmark = pytest.mark.skipif(bool(FAULT), reason=f"containers cannot be made here: {FAULT}")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="module")
def server(shop: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moorage]:
    folder = tmp_path_factory.mktemp("moorage")
    mirrors = json.dumps({"*.dkr.ecr.*.amazonaws.com": shop.host})
    with running(folder / "data", **without_docker(folder, MOORAGE_REGISTRY_MIRRORS=mirrors)) as made:
        yield made


def test_image_of_an_archive_is_served_without_a_registry(user: Deployment, server: Moorage, tmp_path: Path) -> None:
    archive = python_image().archive(tmp_path / "image.tar", "whatever:1")
    digest = server.run("images", "add", "ours:1", "--archive", str(archive)).stdout.strip()
    model = user.model("ours", pack({"weights": b"42"}), Image="ours:1")
    user.in_service("ours", ("blue", model, 1.0, 1))
    assert invoke(user, "ours", "sys.argv[1:], open('/opt/ml/model/weights').read()") == "(['serve'], '42')"
    (image,) = user.sagemaker.describe_endpoint(EndpointName="ours")["ProductionVariants"][0]["DeployedImages"]
    assert (image["SpecifiedImage"], image["ResolvedImage"]) == ("ours:1", f"ours@{digest}")
    refused = server.run("images", "rm", "ours:1", check=False)
    assert refused.returncode == 1
    assert "in use" in refused.stderr
    user.delete("ours")


@needs_registry
def test_image_of_a_registry_is_served_by_the_uri_that_it_has_on_aws(
    user: Deployment, server: Moorage, shop: Registry
) -> None:
    digest = python_image(Labels={"for": "product"}).push(shop, "churn", "3")
    model = user.model("churn", pack({"weights": b"42"}), Image=f"{ECR}/churn:3")
    user.in_service("churn", ("blue", model, 1.0, 1))
    assert invoke(user, "churn", "open('/opt/ml/model/weights').read()") == "'42'"
    (image,) = user.sagemaker.describe_endpoint(EndpointName="churn")["ProductionVariants"][0]["DeployedImages"]
    assert image["ResolvedImage"] == f"{ECR}/churn@{digest}"
    listed = json.loads(server.run("images", "ls", "--output", "json").stdout)
    assert (f"{ECR}/churn:3", digest, False) in [
        (row["name"], row["digest"], row["pinned"]) for row in listed if "digest" in row
    ]
    user.delete("churn")


@needs_registry
def test_image_that_no_registry_has_fails_the_endpoint_and_says_why(user: Deployment) -> None:
    model = user.model("nothing", pack({"weights": b"1"}), Image=f"{ECR}/nothing:1")
    user.create("nothing", ("blue", model, 1.0, 1))
    described = user.settled("nothing")
    assert described["EndpointStatus"] == "Failed"
    assert f"Requested image {ECR}/nothing:1 not found" in described["FailureReason"]
    user.delete("nothing")


@pytest.mark.slow  # the first time it is downloaded
@needs_registry
def test_server_of_a_third_party_is_served_unmodified(user: Deployment, shop: Registry) -> None:
    litserve_image().push(shop, "litserve", "1")
    model = user.model("lit", pack({"factor.json": b"7"}), Image=f"{ECR}/litserve:1")
    user.in_service("lit", ("blue", model, 1.0, 1))
    answer = user.runtime.invoke_endpoint(EndpointName="lit", Body=b'{"input": 6}', ContentType="application/json")
    assert answer["Body"].read() == b'{"output":42}'
    user.delete("lit")


def test_images_of_a_pipeline_listen_where_they_are_told(user: Deployment, server: Moorage, tmp_path: Path) -> None:
    archive = python_image(Labels=BINDS).archive(tmp_path / "image.tar", "whatever:1")
    server.run("images", "add", "binds:1", "--archive", str(archive))
    model = user.several("duo", ("binds:1", pack({"weights": b"42"}), "a"), ("binds:1", None, "b"))
    user.in_service("duo", ("blue", model, 1.0, 1))
    # What the first gives, a string in quotes, the second evaluates again.
    what = "'os.environ[\"SAGEMAKER_BIND_TO_PORT\"], ' + os.environ['SAGEMAKER_BIND_TO_PORT']"
    assert invoke(user, "duo", what) == repr('os.environ["SAGEMAKER_BIND_TO_PORT"], 8080')
    what = "type('', (), {'__repr__': lambda _: 'os.environ[\"SAGEMAKER_BIND_TO_PORT\"], socket.gethostname()'})()"
    assert invoke(user, "duo", what) == "('8081', 'b')"
    user.delete("duo")


def test_images_are_invoked_directly_and_their_models_are_their_own(
    user: Deployment, server: Moorage, tmp_path: Path
) -> None:
    archive = python_image(Labels=BINDS).archive(tmp_path / "image.tar", "whatever:1")
    server.run("images", "add", "direct:1", "--archive", str(archive))
    containers = [("direct:1", pack({"weights": weights}), name) for name, weights in (("a", b"1"), ("b", b"2"))]
    model = user.several("choose", *containers, mode="Direct", Environment={"MINE": "yes"})
    user.in_service("choose", ("blue", model, 1.0, 1))
    for name, weights in (("a", "1"), ("b", "2")):
        what = "open('/opt/ml/model/weights').read(), os.environ['MINE']"
        assert invoke(user, "choose", what, TargetContainerHostname=name) == f"('{weights}', 'yes')"
    user.delete("choose")


def test_image_that_does_not_say_that_it_listens_where_it_is_told_is_no_part_of_a_pipeline(
    user: Deployment, server: Moorage, tmp_path: Path
) -> None:
    archive = python_image(Labels={"for": "nobody's port"}).archive(tmp_path / "image.tar", "whatever:1")
    server.run("images", "add", "stubborn:1", "--archive", str(archive))
    user.create("stubborn", ("blue", user.several("stubborn", *[("stubborn:1", None, "")] * 2), 1.0, 1))
    reason = user.settled("stubborn")["FailureReason"]
    label = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true"
    assert f"Your Ecr Image stubborn:1 does not contain required {label} Docker label(s)." in reason
    user.delete("stubborn")


MANY_MODELS = """
import json
THERE = {}
def post(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    if self.path == "/models":
        wish = json.loads(body)
        if len(THERE) > 1:
            return self.answer("full", 507)
        THERE[wish["model_name"]] = open(wish["url"] + "/weights").read()
        return self.answer("{}")
    model = THERE.get(self.path.split("/")[2])
    target = self.headers["X-Amzn-SageMaker-Target-Model"]
    self.answer(f"{model} for {target}: {body.decode()}" if model else "", 200 if model else 404)
def get(self):
    name = self.path.split("/")[-1]
    there = self.path in ("/ping", "/models") or name in THERE
    self.answer(json.dumps({"models": [{"modelName": name} for name in THERE]}), 200 if there else 404)
def delete(self):
    print("unloads", THERE.pop(self.path.split("/")[-1]), flush=True)
    self.answer("{}")
Handler.do_POST, Handler.do_GET, Handler.do_DELETE = post, get, delete
"""
"""Makes the images' server one of many models, two of which fit; in at most 1,024 letters."""

CAN_HAVE_MANY = "com.amazonaws.sagemaker.capabilities.multi-models"


def test_image_that_says_so_serves_many_models(user: Deployment, server: Moorage, tmp_path: Path) -> None:
    archive = python_image(Labels={CAN_HAVE_MANY: "true"}).archive(tmp_path / "image.tar", "whatever:1")
    server.run("images", "add", "many:1", "--archive", str(archive))
    model = user.model(
        "many",
        b"",
        Image="many:1",
        Mode="MultiModel",
        Environment={"BEFORE_SERVING": MANY_MODELS},
        ModelDataUrl="s3://models-many/fleet",
    )
    user.in_service("many", ("blue", model, 1.0, 1))
    for name in "abc":
        user.s3.put_object(Bucket="models-many", Key=f"fleet/{name}.tar.gz", Body=pack({"weights": name.encode()}))
        assert invoke(user, "many", "x", TargetModel=f"{name}.tar.gz") == f"{name} for {name}.tar.gz: x"
    assert server.run("logs", "many").stdout.count("unloads a") == 1
    assert invoke(user, "many", "x", TargetModel="b.tar.gz") == "b for b.tar.gz: x"
    user.delete("many")


def test_image_that_does_not_say_that_it_serves_many_models_does_not(
    user: Deployment, server: Moorage, tmp_path: Path
) -> None:
    archive = python_image(Labels={"for": "one model"}).archive(tmp_path / "image.tar", "whatever:1")
    server.run("images", "add", "single:1", "--archive", str(archive))
    model = user.model("single", b"", Image="single:1", Mode="MultiModel", ModelDataUrl="s3://models-single/")
    user.create("single", ("blue", model, 1.0, 1))
    reason = user.settled("single")["FailureReason"]
    assert f"Your Ecr Image single:1 does not contain required {CAN_HAVE_MANY}=true Docker label(s)." in reason
    user.delete("single")


def test_container_that_dies_is_replaced_and_a_killed_server_leaves_nothing(tmp_path: Path) -> None:
    settings = without_docker(tmp_path)
    server = Moorage(tmp_path / "data", environment=settings)
    archive = python_image().archive(tmp_path / "image.tar", "kill:1")
    server.run("images", "add", "kill:1", "--archive", str(archive))
    server.start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        user = Deployment(server)
        model = user.model("kill", pack({"weights": b"1"}), Image="kill:1")
        user.in_service("kill", ("blue", model, 1.0, 1))
        (first,) = server.pids("instance", "kill")
        with contextlib.suppress(user.runtime.exceptions.ClientError):
            invoke(user, "kill", "os._exit(3)")
        wait_until(lambda: answers(user), within=30, what="another one answers")
        (second,) = server.pids("instance", "kill")
        assert first != second
        server.kill_everything()
        wait_until(lambda: not alive(second), within=10, what="the container has ended with the server")
        assert mounts_of_containers(tmp_path) == []
        server.start()
        wait_until(lambda: answers(Deployment(server)), within=30, what="the endpoint serves again")
    assert mounts_of_containers(tmp_path) == []


def mounts_of_containers(folder: Path) -> list[str]:
    """Give what is seen of containers' mounts in this machine's own namespace: layers, stages, overlays."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    mine = (str(folder / "data/images"), f"{run_dir_of(folder / 'data')}/stage", "lowerdir=0")
    return [line for line in lines if any(word in line for word in mine)]


def answers(user: Deployment) -> bool:
    with contextlib.suppress(user.runtime.exceptions.ClientError):
        return invoke(user, "kill", "6 * 7") == "42"
    return False


def invoke(user: Deployment, endpoint: str, expression: str, **more: str) -> str:
    answer = user.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=expression.encode(), ContentType="text/plain", **more
    )
    said: bytes = answer["Body"].read()
    return said.decode()
