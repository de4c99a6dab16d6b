"""Data capture with real models: what arrives under the bucket, in AWS's layout and to the byte."""

import calendar
import json
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.product import running, wait_until
from tests.support.small_models import BROKEN, ECHO, TELLING, a_variant, configure, serve

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TYPES = {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]}
CSV = {"ContentType": "text/csv", "Accept": "application/json"}


@pytest.fixture(scope="module")
def capturing(environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server that closes a file of captured data after a second instead of a minute; it needs the built image."""
    assert Path(environment_python).exists()
    with running(tmp_path_factory.mktemp("capture") / "data", MOORAGE_CAPTURE_FILE_SECONDS="1") as server:
        yield Deployment(server)


@pytest.fixture(scope="module")
def echo(capturing: Deployment) -> str:
    return capturing.model("capture-echo", models.code_only(ECHO))


@pytest.fixture
def bucket(capturing: Deployment, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = f"captured-{zlib.crc32(request.node.nodeid.encode()):08x}"
    capturing.s3.create_bucket(Bucket=name)
    return name


def capture_to(bucket: str, *modes: str, **changes: Any) -> dict[str, Any]:
    """Make a DataCaptureConfig of everything, input and output."""
    return {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/some/where/",
        "CaptureOptions": [{"CaptureMode": mode} for mode in modes or ("InputAndOutput",)],
        "CaptureContentTypeHeader": TYPES,
        **changes,
    }


def captured(deployment: Deployment, bucket: str) -> dict[str, list[str]]:
    """Give the lines of all captured files by key."""
    pages = deployment.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {
        key: deployment.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode().removesuffix("\n").split("\n")
        for key in keys
    }


def lines(deployment: Deployment, bucket: str) -> list[str]:
    return [line for _, found in sorted(captured(deployment, bucket).items()) for line in found]


def until_lines(deployment: Deployment, bucket: str, count: int) -> list[str]:
    """Wait until so many lines have arrived."""
    wait_until(lambda: len(lines(deployment, bucket)) >= count, within=30, what=f"{count} lines in {bucket}")
    return lines(deployment, bucket)


def inputs(found: list[str]) -> list[str]:
    """Give the bodies of the requests that lines tell of."""
    return sorted(json.loads(line)["captureData"]["endpointInput"]["data"] for line in found)


def without_chance(line: str) -> str:
    """Put words in the place of what differs from run to run."""
    line = re.sub(rf'"eventId":"{UUID}"', '"eventId":"EVENT"', line)
    return re.sub(r'"inferenceTime":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"inferenceTime":"TIME"', line)


@pytest.mark.slow  # starts an instance
def test_each_invocation_is_a_line_in_aws_s_form_under_aws_s_key(capturing: Deployment, echo: str, bucket: str) -> None:
    described = serve(capturing, "Wine-1", a_variant("Only", echo), DataCaptureConfig=capture_to(bucket))
    invoke = capturing.runtime.invoke_endpoint

    began = time.time()
    invoke(EndpointName="Wine-1", Body='{"é": "\\u0041"}\n', CustomAttributes="k=v", InferenceId="id-1", **CSV)
    until_lines(capturing, bucket, 1)
    invoke(EndpointName="Wine-1", Body="1,2", ContentType="text/csv; charset=utf-8", Accept="application/x-npy")
    until_lines(capturing, bucket, 2)
    invoke(EndpointName="Wine-1", Body=b"\x93NUMPY\x00\xff", ContentType="application/x-npy", Accept="text/csv")
    found = until_lines(capturing, bucket, 3)
    ended = time.time()
    files = captured(capturing, bucket)
    capturing.delete("Wine-1")

    assert described["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/some/where/",
        "KmsKeyId": "",
    }
    assert [without_chance(line) for line in found] == [
        (
            '{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT",'
            '"data":"{\\"é\\": \\"\\\\u0041\\"}\\n","encoding":"CSV"},'
            '"endpointOutput":{"observedContentType":"application/json","mode":"OUTPUT",'
            '"data":"{\\"é\\": \\"\\\\u0041\\"}\\n","encoding":"JSON"}},'
            '"eventMetadata":{"eventId":"EVENT","customAttributes":["k=v"],"inferenceId":"id-1","inferenceTime":"TIME"},'
            '"eventVersion":"0"}'
        ),
        (
            '{"captureData":{"endpointInput":{"observedContentType":"text/csv; charset=utf-8","mode":"INPUT",'
            '"data":"1,2","encoding":"CSV"},'
            '"endpointOutput":{"observedContentType":"application/x-npy","mode":"OUTPUT",'
            '"data":"MSwy","encoding":"BASE64"}},'
            '"eventMetadata":{"eventId":"EVENT","inferenceTime":"TIME"},"eventVersion":"0"}'
        ),
        (
            '{"captureData":{"endpointInput":{"observedContentType":"application/x-npy","mode":"INPUT",'
            '"data":"k05VTVBZAP8=","encoding":"BASE64"},'
            '"endpointOutput":{"observedContentType":"text/csv; charset=utf-8","mode":"OUTPUT",'
            '"data":"\x93NUMPY\\u0000ÿ","encoding":"CSV"}},'
            '"eventMetadata":{"eventId":"EVENT","inferenceTime":"TIME"},"eventVersion":"0"}'
        ),
    ]
    for key, of_file in files.items():
        time_of_first = re.fullmatch(
            rf"some/where/Wine-1/Only/(\d{{4}}/\d\d/\d\d/\d\d/\d\d-\d\d)-\d{{3}}-{UUID}\.jsonl", key
        )
        assert time_of_first is not None, key
        metadata = json.loads(of_file[0])["eventMetadata"]
        moment = time.strptime(metadata["inferenceTime"], "%Y-%m-%dT%H:%M:%SZ")
        assert time_of_first[1] == time.strftime("%Y/%m/%d/%H/%M-%S", moment)
        assert began - 1 <= calendar.timegm(moment) <= ended
    assert len({json.loads(line)["eventMetadata"]["eventId"] for line in found}) == 3


@pytest.mark.slow  # starts an instance
@pytest.mark.parametrize(
    ("modes", "sides"),
    [
        (["Input"], {"endpointInput"}),
        (["Output"], {"endpointOutput"}),
        (["Input", "Output"], {"endpointInput", "endpointOutput"}),
    ],
)
def test_only_the_sides_that_are_asked_for_are_captured(
    capturing: Deployment, echo: str, bucket: str, modes: list[str], sides: set[str]
) -> None:
    name = "sides-" + "-".join(modes).lower()
    serve(capturing, name, a_variant("only", echo), DataCaptureConfig=capture_to(bucket, *modes))

    capturing.invoke(name, "1,2")
    (line,) = until_lines(capturing, bucket, 1)
    capturing.delete(name)

    assert json.loads(line)["captureData"].keys() == sides


@pytest.mark.slow  # starts an instance
def test_without_content_types_everything_is_base64(capturing: Deployment, echo: str, bucket: str) -> None:
    capture = capture_to(bucket)
    del capture["CaptureContentTypeHeader"]
    serve(capturing, "untyped", a_variant("only", echo), DataCaptureConfig=capture)

    capturing.invoke("untyped", "1,2")
    (line,) = until_lines(capturing, bucket, 1)
    capturing.delete("untyped")

    sides = json.loads(line)["captureData"].values()
    assert [(side["data"], side["encoding"]) for side in sides] == [("MSwy", "BASE64")] * 2


@pytest.mark.slow  # starts an instance
@pytest.mark.parametrize("changes", [{"EnableCapture": False}, {"InitialSamplingPercentage": 0}])
def test_nothing_is_captured_that_is_switched_off_or_sampled_away(
    capturing: Deployment, echo: str, bucket: str, changes: dict[str, Any]
) -> None:
    name = "off-" + "-".join(changes).lower()
    described = serve(capturing, name, a_variant("only", echo), DataCaptureConfig=capture_to(bucket, **changes))

    for number in range(20):
        capturing.invoke(name, f"{number}")
    capturing.delete(name)  # which leaves nothing unwritten
    after_deletion_of_another(capturing, echo, bucket)

    assert inputs(lines(capturing, bucket)) == ["the other"]
    expected = (False, "Stopped") if "EnableCapture" in changes else (True, "Started")
    capture = described["DataCaptureConfig"]
    assert (capture["EnableCapture"], capture["CaptureStatus"]) == expected


def after_deletion_of_another(deployment: Deployment, echo: str, bucket: str) -> None:
    """Wait for what another endpoint captures into the same bucket later: earlier data would be there by then."""
    serve(deployment, "another", a_variant("only", echo), DataCaptureConfig=capture_to(bucket))
    deployment.invoke("another", "the other")
    until_lines(deployment, bucket, 1)
    deployment.delete("another")
    deployment.sagemaker.delete_endpoint_config(EndpointConfigName="another")


@pytest.mark.slow  # starts an instance; 400 invocations
def test_share_of_invocations_that_is_asked_for_is_captured(capturing: Deployment, echo: str, bucket: str) -> None:
    capture = capture_to(bucket, InitialSamplingPercentage=50)
    serve(capturing, "sampled", a_variant("only", echo), DataCaptureConfig=capture)

    for number in range(400):
        capturing.invoke("sampled", f"{number}")
    capturing.delete("sampled")
    after_deletion_of_another(capturing, echo, bucket)

    found = inputs(lines(capturing, bucket))
    # Five standard deviations of 400 coins.
    assert 150 <= len(found) - 1 <= 250
    assert len(set(found)) == len(found)


@pytest.mark.slow  # starts instances, and another fleet of them
def test_capture_stops_with_the_configuration_that_asked_for_it(capturing: Deployment, echo: str, bucket: str) -> None:
    serve(capturing, "stopping", a_variant("only", echo), DataCaptureConfig=capture_to(bucket))
    configure(capturing, "stopped", a_variant("only", echo))

    capturing.invoke("stopping", "before")
    capturing.sagemaker.update_endpoint(
        EndpointName="stopping", EndpointConfigName="stopped", RetainAllVariantProperties=True
    )
    described = capturing.settled("stopping")
    capturing.invoke("stopping", "after")
    capturing.delete("stopping")
    after_deletion_of_another(capturing, echo, bucket)

    assert "DataCaptureConfig" not in described
    assert inputs(until_lines(capturing, bucket, 2)) == ["before", "the other"]


@pytest.mark.slow  # starts instances
def test_shadow_is_captured_under_its_own_name_with_the_same_inference_id(
    capturing: Deployment, echo: str, bucket: str
) -> None:
    telling = capturing.model("capture-telling", models.code_only(TELLING))
    serve(
        capturing,
        "shadowed",
        a_variant("only", echo),
        ShadowProductionVariants=[a_variant("copy", telling)],
        DataCaptureConfig=capture_to(bucket),
    )

    capturing.invoke("shadowed", "1,2", InferenceId="the-id")
    until_lines(capturing, bucket, 2)
    by_variant = {key.split("/")[3]: json.loads(line) for key, (line,) in captured(capturing, bucket).items()}
    capturing.delete("shadowed")

    assert by_variant.keys() == {"only", "copy"}
    assert {record["eventMetadata"]["inferenceId"] for record in by_variant.values()} == {"the-id"}
    answers = {name: record["captureData"]["endpointOutput"]["data"] for name, record in by_variant.items()}
    assert answers == {"only": "1,2", "copy": "told"}


@pytest.mark.slow  # starts an instance
def test_what_the_model_refuses_is_not_captured(capturing: Deployment, echo: str, bucket: str) -> None:
    broken = capturing.model("capture-broken", models.code_only(BROKEN))
    serve(capturing, "refusing", a_variant("only", broken), DataCaptureConfig=capture_to(bucket))

    with pytest.raises(ClientError, match="no rudder"):
        capturing.invoke("refusing", "1,2")
    capturing.delete("refusing")
    after_deletion_of_another(capturing, echo, bucket)

    assert inputs(lines(capturing, bucket)) == ["the other"]


@pytest.mark.slow  # starts an instance, and waits for a delivery to be tried again
def test_missing_bucket_harms_no_invocation_and_gets_what_was_captured_once_it_is_there(
    capturing: Deployment, echo: str
) -> None:
    capture = capture_to("captured-later")
    serve(capturing, "later", a_variant("only", echo), DataCaptureConfig=capture)

    answers = [capturing.invoke("later", f"{number}")[0] for number in range(5)]
    time.sleep(2.5)  # for the first delivery to have failed: a file is closed after a second
    capturing.s3.create_bucket(Bucket="captured-later")
    wait_until(lambda: len(lines(capturing, "captured-later")) == 5, within=90, what="the lines have arrived")
    found = inputs(lines(capturing, "captured-later"))
    capturing.delete("later")

    assert answers == found == [f"{number}" for number in range(5)]
