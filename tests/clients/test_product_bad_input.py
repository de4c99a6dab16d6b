"""Bad requests and bad models: each ends in AWS's error or FailureReason, none in a traceback, a hang or a leak."""

import http.client
import json
import urllib.parse

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment, Wine
from tests.support.product import IMAGE, Moorage

JSON_11 = "application/x-amz-json-1.1"


class Raw:
    """Requests as no SDK would send them, signed or not."""

    def __init__(self, moorage: Moorage) -> None:
        exports = moorage.exports()
        self.url = exports["AWS_ENDPOINT_URL"]
        self.region = exports["AWS_DEFAULT_REGION"]
        self.credentials = Credentials(exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"])

    def send(
        self, path: str, body: bytes, headers: dict[str, str], *, sent: bytes | None = None, sign: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        """Sign ``body``, send ``sent`` (or the same); gives status, headers in lower case and body."""
        request = AWSRequest("POST", self.url + path, data=body, headers=headers)
        if sign:
            SigV4Auth(self.credentials, "sagemaker", self.region).add_auth(request)
        location = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(location.hostname or "", location.port, timeout=30)
        try:
            connection.request("POST", path, body if sent is None else sent, dict(request.headers))
            response = connection.getresponse()
            lower = {name.lower(): value for name, value in response.getheaders()}
            return response.status, lower, response.read()
        finally:
            connection.close()

    def operation(self, target: str, body: bytes, **more: object) -> tuple[int, dict[str, object]]:
        """Call a control-plane operation; gives status and the JSON body."""
        headers = {"Content-Type": JSON_11, "X-Amz-Target": target}
        status, answered, content = self.send("/", body, headers, **more)  # type: ignore[arg-type]
        assert answered["x-amzn-requestid"]
        return status, json.loads(content)


@pytest.fixture(scope="module")
def raw(moorage: Moorage) -> Raw:
    return Raw(moorage)


def test_a_dart_clients_raw_request_is_understood(raw: Raw, deployment: Deployment, wine: Wine) -> None:
    deployment.model("dart", wine.artefact("logistic"))
    body = (
        b'{"EndpointConfigName":"dart","ProductionVariants":[{"ModelName":"dart","VariantName":"only",'
        b'"InitialInstanceCount":1,"InitialVariantWeight":1,"InstanceType":"ml.m5.large"}]}'
    )

    status, answer = raw.operation("SageMaker.CreateEndpointConfig", body)

    assert status == 200
    assert str(answer["EndpointConfigArn"]).endswith(":endpoint-config/dart")


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("SageMaker.CreateModel", b"{", "SerializationException"),
        ("SageMaker.CreateModel", b'{"ModelName":7}', "SerializationException"),
        ("SageMaker.CreateModel", b'{"ModelName":"a","ModelName":"b"}', "SerializationException"),
        ("SageMaker.CreateModel", b"{}", "ValidationException"),
        ("SageMaker.Nonsense", b"{}", "UnknownOperationException"),
        ("Other.CreateModel", b"{}", "UnknownOperationException"),
    ],
)
def test_a_malformed_request_gets_awss_error(raw: Raw, target: str, body: bytes, code: str) -> None:
    status, answer = raw.operation(target, body)

    assert (status, answer["__type"]) == (400, code)


def test_an_operation_that_moorage_lacks_is_named(raw: Raw) -> None:
    status, answer = raw.operation("SageMaker.CreateTrainingJob", b"{}")

    assert status == 400
    assert "CreateTrainingJob" in str(answer["message"])
    assert "Moorage" in str(answer["message"])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sign": False}, "MissingAuthenticationTokenException"),
        ({"sent": b'{"EndpointName":"other"}'}, "InvalidSignatureException"),
    ],
)
def test_an_unsigned_or_tampered_request_is_refused(raw: Raw, changes: dict[str, object], code: str) -> None:
    status, answer = raw.operation("SageMaker.DeleteEndpoint", b'{"EndpointName":"mine1"}', **changes)

    assert (status, answer["__type"]) == (400, code)


def test_an_unsigned_invocation_is_refused_with_403(raw: Raw) -> None:
    status, headers, _ = raw.send("/endpoints/any/invocations", b"1,2", {}, sign=False)

    assert (status, headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")


def test_an_oversized_invocation_is_refused_in_awss_words(deployment: Deployment) -> None:
    with pytest.raises(ClientError, match=r"Request [-0-9a-f]{36} has oversize body\."):
        deployment.runtime.invoke_endpoint(EndpointName="any", Body=b"x" * 27_000_000)


def test_an_oversized_api_request_is_refused(raw: Raw) -> None:
    status, answer = raw.operation("SageMaker.CreateModel", b'{"ModelName":"' + b"x" * 3_000_000 + b'"}')

    assert status in (400, 413)
    assert answer["__type"]


def test_an_unknown_key_is_refused(moorage: Moorage) -> None:
    client = moorage.client("sagemaker")
    client._request_signer._credentials.access_key = "AKIAUNKNOWN000000000"

    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        client.list_models()


@pytest.mark.parametrize(
    ("name", "artefact", "reason"),
    [
        ("no-tar", b"this is no archive", "Failed to"),
        ("traversal", models.pack({"../evil": b"x"}), "Failed to"),
        (
            "raises",
            models.code_only("def model_fn(d): raise ValueError('no such vintage')"),
            "no such vintage",
        ),
        ("exits", models.code_only("import os\nos._exit(3)"), "did not pass the ping health check"),
    ],
    ids=["no-tar", "traversal", "raises", "exits"],  # archives have the time in them: they name nothing for two workers
)
def test_a_model_that_cannot_start_fails_with_the_reason(
    deployment: Deployment, name: str, artefact: bytes, reason: str
) -> None:
    model = deployment.model(f"bad-{name}", artefact)
    deployment.create(f"bad-{name}", ("only", model, 1, 1))

    described = deployment.settled(f"bad-{name}")

    assert described["EndpointStatus"] == "Failed"
    assert reason in described["FailureReason"]
    assert len(described["FailureReason"]) <= 1024
    deployment.delete(f"bad-{name}")
    assert deployment.moorage.pids("instance", f"bad-{name}") == []


def test_a_missing_artefact_is_refused_when_the_model_is_created(deployment: Deployment) -> None:
    with pytest.raises(ClientError, match=r"Could not access model data at s3://nowhere/model\.tar\.gz"):
        deployment.sagemaker.create_model(
            ModelName="nowhere",
            ExecutionRoleArn="arn:aws:iam::000000000000:role/moorage",
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": "s3://nowhere/model.tar.gz"},
        )


def test_an_exception_in_predict_fn_is_a_model_error_without_a_traceback(deployment: Deployment) -> None:
    source = """
        def model_fn(model_dir):
            return None

        def predict_fn(data, model):
            raise ValueError("corked")
    """
    model = deployment.model("corked", models.code_only(source))
    deployment.in_service("corked", ("only", model, 1, 1))

    with pytest.raises(ClientError) as caught:
        deployment.invoke("corked", "1,2\n3,4")

    answer = caught.value.response
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["OriginalStatusCode"] == 500
    assert "corked" in answer["OriginalMessage"]
    assert "Traceback" not in answer["OriginalMessage"]
    assert "Traceback" in deployment.moorage.run("logs", "corked").stdout
    deployment.delete("corked")


@pytest.mark.parametrize(
    "member",
    [
        {"MetricsConfig": {"EnableEnhancedMetrics": True}},
        {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/p"}}},
        {"KmsKeyId": "alias/mine"},
    ],
)
def test_a_member_that_is_not_built_is_refused_by_name(
    deployment: Deployment, member: dict[str, object], wine: Wine
) -> None:
    name = next(iter(member))
    model = deployment.model(f"refused-{name}", wine.artefact("logistic"))

    with pytest.raises(ClientError, match=name) as caught:
        deployment.sagemaker.create_endpoint_config(
            EndpointConfigName="refused",
            ProductionVariants=[
                {
                    "VariantName": "only",
                    "ModelName": model,
                    "InitialInstanceCount": 1,
                    "InstanceType": "ml.m5.large",
                }
            ],
            **member,
        )

    assert caught.value.response["Error"]["Code"] == "ValidationException"
