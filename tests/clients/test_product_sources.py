"""Model data in every form of CreateModel, as a user deploys it: of buckets and web servers, whole, listed, pinned."""

import io
import json
import os
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.certificates import make_certificate
from tests.support.fixtures import Deployment
from tests.support.product import IMAGE, ROLE, running
from tests.support.web import WebServer, web_server

BUCKET = "sources"
ADDITIONAL = "/opt/ml/additional-model-data-sources"
LISTS = textwrap.dedent(
    """
    import json, os

    def model_fn(model_dir):
        return model_dir

    def input_fn(body, content_type):
        return body if isinstance(body, str) else body.decode()

    def predict_fn(folder, model_dir):
        found = {}
        for parent, _folders, files in os.walk(folder):
            for name in files:
                with open(os.path.join(parent, name), "rb") as file:
                    found[os.path.relpath(os.path.join(parent, name), folder)] = file.read().decode()
        return found

    def output_fn(found, accept):
        return json.dumps(found), "application/json"
    """
)
"""A model that says which files it sees in a folder, and what is in them."""

CODE = "code/inference.py"
FILES = {CODE: LISTS, "weights/part1": "one", "weights/part2": "two"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"), "web")
    with web_server(certificate) as made:
        yield made


@pytest.fixture(scope="module")
def deployment(
    environment_python: str, server: WebServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    assert Path(environment_python).exists()
    trusted = {"SSL_CERT_FILE": str(server.certificate)}
    with running(tmp_path_factory.mktemp("sources") / "data", **trusted) as moorage:
        made = Deployment(moorage)
        made.s3.create_bucket(Bucket=BUCKET)
        yield made


def put(deployment: Deployment, prefix: str, files: dict[str, str]) -> str:
    for name, content in files.items():
        deployment.s3.put_object(Bucket=BUCKET, Key=prefix + name, Body=content.encode())
    return f"s3://{BUCKET}/{prefix}"


def tree(uri: str, **more: Any) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None", **more}}


def one(uri: str, compression: str, **more: Any) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Object", "CompressionType": compression, **more}}


def register(deployment: Deployment, name: str, container: dict[str, Any], **more: Any) -> None:
    primary = {"Image": IMAGE, **container}
    deployment.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=primary, **more)


def seen(deployment: Deployment, name: str, folder: str = "/opt/ml/model") -> dict[str, str]:
    found: dict[str, str] = json.loads(deployment.invoke(name, folder)[0])
    return found


def serve(deployment: Deployment, name: str, container: dict[str, Any]) -> dict[str, str]:
    """Deploy a container; gives the files that it sees as its model."""
    register(deployment, name, container)
    deployment.in_service(name, ("only", name, 1, 1))
    return seen(deployment, name)


def fails(deployment: Deployment, name: str, container: dict[str, Any]) -> str:
    """Deploy a container whose deployment fails; gives the FailureReason."""
    register(deployment, name, container)
    deployment.create(name, ("only", name, 1, 1))
    described = deployment.settled(name)
    assert described["EndpointStatus"] == "Failed"
    reason: str = described["FailureReason"]
    deployment.delete(name)
    return reason


def test_prefix_of_objects_is_the_model(deployment: Deployment) -> None:
    uri = put(deployment, "tree/", FILES)
    assert serve(deployment, "tree", {"ModelDataSource": tree(uri)}) == FILES
    described = deployment.sagemaker.describe_model(ModelName="tree")["PrimaryContainer"]
    assert described["ModelDataSource"] == tree(uri)
    assert "ModelDataUrl" not in described


def test_four_instances_share_one_copy(deployment: Deployment) -> None:
    mark = "shared-by-all-instances"
    uri = put(deployment, "shared/", {**FILES, "mark": mark})
    register(deployment, "shared", {"ModelDataSource": tree(uri)})
    deployment.in_service("shared", ("only", "shared", 1, 4))
    cached = deployment.moorage.data_dir / "models"
    copies = [path for path in cached.rglob("mark") if path.read_text() == mark]
    assert len(copies) == 1
    deployment.delete("shared")


def test_manifest_and_pins_choose_what_is_served(deployment: Deployment) -> None:
    uri = put(deployment, "listed/", FILES)
    listed = deployment.s3.put_object(Bucket=BUCKET, Key="list.csv", Body=f"{uri}{CODE}\nweights/part2\n".encode())
    manifest = {"ManifestS3Uri": f"s3://{BUCKET}/list.csv", "ManifestEtag": listed["ETag"]}
    container = {"ModelDataSource": tree(uri, **manifest)}
    assert serve(deployment, "listed", container) == {CODE: LISTS, "weights/part2": "two"}
    deployment.s3.put_object(Bucket=BUCKET, Key="list.csv", Body=b"weights/part1\n")
    reason = fails(deployment, "listed-other", container)
    assert f"s3://{BUCKET}/list.csv has the ETag" in reason


def test_archive_of_a_source_is_extracted_and_pinned(deployment: Deployment) -> None:
    packed = models.pack({name: content.encode() for name, content in FILES.items()})
    etag = deployment.s3.put_object(Bucket=BUCKET, Key="pinned", Body=packed)["ETag"]
    container = {"ModelDataSource": one(f"s3://{BUCKET}/pinned", "Gzip", ETag=etag)}
    assert serve(deployment, "pinned", container) == FILES
    deployment.s3.put_object(Bucket=BUCKET, Key="pinned", Body=models.pack({CODE: b"raise ValueError"}))
    reason = fails(deployment, "pinned-other", container)
    assert f"the model wants the one with the ETag {etag.strip(chr(34))}" in reason
    assert reason.startswith(
        'Failed to download model data for container "container_1" from URL: "s3://sources/pinned"'
    )


def test_single_object_and_additional_channels_are_at_their_places(deployment: Deployment) -> None:
    put(deployment, "", {"base/weights.bin": "heavy"})
    adapter = models.pack({"adapter.json": b"{}", "deep/x": b"y"})
    deployment.s3.put_object(Bucket=BUCKET, Key="adapter.tar.gz", Body=adapter)
    code = models.pack({"inference.py": LISTS.encode()})
    deployment.s3.put_object(Bucket=BUCKET, Key="code.tar.gz", Body=code)
    container = {
        "ModelDataSource": one(f"s3://{BUCKET}/base/weights.bin", "None"),
        "Environment": {"SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{BUCKET}/code.tar.gz"},
        "AdditionalModelDataSources": [
            {"ChannelName": "adapter", **one(f"s3://{BUCKET}/adapter.tar.gz", "Gzip")},
            {"ChannelName": "draft_model", **tree(put(deployment, "draft/", {"a/b": "c"}))},
        ],
    }
    assert serve(deployment, "channels", container) == {"weights.bin": "heavy", CODE: LISTS}
    assert seen(deployment, "channels", ADDITIONAL) == {
        "adapter/adapter.json": "{}",
        "adapter/deep/x": "y",
        "draft_model/a/b": "c",
    }
    described = deployment.sagemaker.describe_model(ModelName="channels")["PrimaryContainer"]
    assert described["AdditionalModelDataSources"] == container["AdditionalModelDataSources"]


def test_archive_of_a_web_server_is_downloaded_and_continued_where_it_breaks_off(
    deployment: Deployment, server: WebServer
) -> None:
    packed = models.pack(
        {**{name: content.encode() for name, content in FILES.items()}, "big": os.urandom(3_000_000).hex().encode()}
    )
    url = server.page("/models/model.tar.gz", packed)
    register(deployment, "web", {"ModelDataUrl": url})
    server.pages["/models/model.tar.gz"].break_after = [1_000_000]
    deployment.in_service("web", ("only", "web", 1, 1))
    assert {name: content for name, content in seen(deployment, "web").items() if name in FILES} == FILES
    assert "bytes=1000000-" in [asked.headers.get("range") for asked in server.asked]


def test_s3s_own_urls_name_the_bucket(deployment: Deployment) -> None:
    packed = models.pack({name: content.encode() for name, content in FILES.items()})
    deployment.s3.put_object(Bucket=BUCKET, Key="named/model.tar.gz", Body=packed)
    url = f"https://{BUCKET}.s3.us-east-1.amazonaws.com/named/model.tar.gz"
    assert serve(deployment, "named", {"ModelDataUrl": url}) == FILES
    assert deployment.sagemaker.describe_model(ModelName="named")["PrimaryContainer"]["ModelDataUrl"] == url


@pytest.mark.parametrize(
    "container",
    [
        {"ModelDataUrl": f"s3://{BUCKET}/gone.tar.gz"},
        {"ModelDataUrl": "https://127.0.0.1:1/gone.tar.gz"},
        {"ModelDataSource": one(f"s3://{BUCKET}/gone", "None")},
        {"ModelDataSource": tree(f"s3://{BUCKET}/gone/")},
        {"ModelDataSource": tree(f"s3://{BUCKET}/present/", ManifestS3Uri=f"s3://{BUCKET}/gone.csv")},
        {"AdditionalModelDataSources": [{"ChannelName": "c", **tree("s3://nobodys/gone/")}]},
    ],
)
def test_what_is_not_there_is_refused_when_the_model_is_made(deployment: Deployment, container: dict[str, Any]) -> None:
    put(deployment, "present/", {"a": "b"})
    with pytest.raises(ClientError, match=r"\(ValidationException\).*Could not access model data at .*(gone|1/)"):
        register(deployment, "absent", container)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"": "x", "a": "b"}, "an empty name (the S3 console makes such an object"),
        ({"a": "b", "a/c": "d"}, "both as an object and as a folder"),
        ({"a/../../b": "c"}, "the name '..'"),
    ],
)
def test_objects_that_cannot_be_files_fail_the_deployment(
    deployment: Deployment, request: pytest.FixtureRequest, files: dict[str, str], said: str
) -> None:
    name = f"bad-{len(request.node.name)}-{len(files)}"
    uri = put(deployment, f"{name}/", files)
    reason = fails(deployment, name, {"ModelDataSource": tree(uri)})
    assert f'from URL: "{uri}"' in reason
    assert said in reason


def hostile(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


GOOD = models.pack({name: content.encode() for name, content in FILES.items()})


@pytest.mark.parametrize(
    ("name", "artefact", "said"),
    [
        ("leads-out", hostile((entry("../../evil", size=1), b"x")), "leads out of it: ../../evil"),
        ("absolute", hostile((entry("/tmp/evil", size=1), b"x")), "absolute name in it: /tmp/evil"),
        ("link-out", hostile((entry("a", tarfile.SYMTYPE, "/etc/passwd"), b"")), "a link that leads out of it"),
        ("device", hostile((entry("sda", tarfile.BLKTYPE), b"")), "a device or a pipe in it: sda"),
        ("truncated", GOOD[:-20], "damaged"),
        ("wrong-gzip", GOOD[:-8] + bytes(4) + GOOD[-4:], "damaged"),
        ("no-gzip", b"PK\x03\x04", "not a gzip archive"),
    ],
    ids=lambda part: "" if isinstance(part, bytes) else None,  # the bytes of an archive differ from run to run
)
def test_hostile_archive_fails_the_deployment_and_touches_nothing(
    deployment: Deployment, name: str, artefact: bytes, said: str
) -> None:
    deployment.s3.put_object(Bucket=BUCKET, Key=f"{name}.tar.gz", Body=artefact)
    cached = deployment.moorage.data_dir / "models"
    before = {path.name for path in cached.iterdir()}
    reason = fails(deployment, name, {"ModelDataUrl": f"s3://{BUCKET}/{name}.tar.gz"})
    assert f'from URL: "s3://{BUCKET}/{name}.tar.gz"' in reason
    assert said in reason
    assert {path.name for path in cached.iterdir() if path.suffix != ".lock"} <= before
    assert not Path("/tmp/evil").exists()
    assert not (deployment.moorage.data_dir / "evil").exists()


PRIVATE = {"RepositoryAccessMode": "Vpc"}
LAMBDA = {"RepositoryCredentialsProviderArn": "arn"}


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"ImageConfig": {**PRIVATE, "RepositoryAuthConfig": LAMBDA}}, "docker login"),
        ({"ModelDataSource": one("s3://b/k", "None", HubAccessConfig={"HubContentArn": "a"})}, "HubAccessConfig"),
        ({"ModelDataSource": one("s3://b/k", "None", ModelAccessConfig={"AcceptEula": False})}, "must be true"),
        ({"ModelDataSource": tree("https://example.com/p/")}, "must name a bucket of S3"),
        ({"ModelDataUrl": "https://user:secret@example.com/m.tar.gz"}, "a user's name or password"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_by_its_name(
    deployment: Deployment, container: dict[str, Any], said: str
) -> None:
    network = {"SecurityGroupIds": ["sg-12345678"], "Subnets": ["subnet-12345678"]}
    with pytest.raises(ClientError) as refused:
        register(deployment, "refused", container, VpcConfig=network)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert said in str(refused.value)


def test_private_registry_and_its_network_are_kept_as_configuration(deployment: Deployment) -> None:
    network = {"SecurityGroupIds": ["sg-12345678"], "Subnets": ["subnet-12345678", "subnet-87654321"]}
    uri = put(deployment, "private/", FILES)
    container = {"ModelDataSource": tree(uri, ModelAccessConfig={"AcceptEula": True})}
    register(deployment, "private", {**container, "ImageConfig": PRIVATE}, VpcConfig=network)
    described = deployment.sagemaker.describe_model(ModelName="private")
    assert described["VpcConfig"] == network
    assert described["PrimaryContainer"]["ImageConfig"] == PRIVATE
    assert described["PrimaryContainer"]["ModelDataSource"] == container["ModelDataSource"]
    deployment.in_service("private", ("only", "private", 1, 1))
    assert seen(deployment, "private") == FILES
