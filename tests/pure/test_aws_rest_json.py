"""The runtime API's members travel in headers and path as botocore writes and reads them; errors have its form."""

import json

import pytest
from botocore.awsrequest import HeadersDict
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.shape_values import header_texts

from moorage.aws import rest_json
from moorage.aws.errors import ClientFault, ModelFault, OurFault, ServiceError, validation_error
from moorage.aws.shapes import NumberShape, StructureShape, load_service

SERVICE = load_service("sagemaker-runtime")
BOTOCORE = ServiceModel(Loader().load_service_model("sagemaker-runtime", "service-2"), "sagemaker-runtime")
INVOKE = SERVICE.operations["InvokeEndpoint"]


def header_members(shape: StructureShape | None) -> dict[str, st.SearchStrategy[int | str]]:
    assert shape is not None
    return {
        name: st.integers(0, 10**6) if isinstance(member.shape, NumberShape) else header_texts
        for name, member in shape.members.items()
        if member.location == "header"
    }


@pytest.mark.parametrize("name", sorted(SERVICE.operations))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_requests_that_botocore_writes_are_read_the_same(name: str, data: st.DataObject) -> None:
    members = data.draw(st.fixed_dictionaries({}, optional=header_members(SERVICE.operations[name].input)))
    endpoint = data.draw(st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=1))
    serializer = create_serializer("rest-json", include_validation=False)
    request = serializer.serialize_to_request(
        {**members, "EndpointName": endpoint, "Body": b"1,2"}, BOTOCORE.operation_model(name)
    )
    operation, labels = rest_json.find_operation(SERVICE, request["method"], request["url_path"])
    headers = [(header.lower(), str(value)) for header, value in request["headers"].items()]
    assert (operation.name, labels) == (name, {"EndpointName": endpoint})
    assert rest_json.read_headers(operation, headers) == members


def test_of_a_repeated_header_the_first_counts_and_an_empty_one_is_absent() -> None:
    headers = [("x-amzn-sagemaker-session-id", "a"), ("x-amzn-sagemaker-session-id", "b"), ("accept", "")]
    assert rest_json.read_headers(INVOKE, headers) == {"SessionId": "a"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/endpoints/e/invocations"),
        ("POST", "/endpoints/e"),
        ("POST", "/endpoints//invocations"),
        ("POST", "/endpoints/e/invocations/"),
        ("POST", "/endpoints/e/f/invocations"),
        ("POST", "/"),
    ],
)
def test_an_unknown_path_is_an_unknown_operation(method: str, path: str) -> None:
    with pytest.raises(ClientFault) as caught:
        rest_json.find_operation(SERVICE, method, path)
    assert (caught.value.code, caught.value.status) == ("UnknownOperationException", 404)


def test_a_violated_constraint_is_the_runtimes_validation_error() -> None:
    with pytest.raises(ClientFault) as caught:
        rest_json.check(INVOKE, {"EndpointName": "e", "TargetVariant": "a_b"})
    assert (caught.value.code, caught.value.status) == ("ValidationError", 400)
    assert caught.value.message == (
        "1 validation error detected: Value 'a_b' at 'targetVariant' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
    )


def test_a_valid_invocation_passes_without_its_body() -> None:
    members = {"EndpointName": "e", "ContentType": "text/csv", "TargetModel": "a b.tar.gz", "SessionId": "NEW_SESSION"}
    rest_json.check(INVOKE, members)


def test_a_number_that_is_none_is_refused() -> None:
    headers = [("x-amzn-sagemaker-requestttlseconds", "soon")]
    with pytest.raises(ClientFault, match="'soon' at 'requestTTLSeconds'"):
        rest_json.read_headers(SERVICE.operations["InvokeEndpointAsync"], headers)


MODEL_ERROR = ModelFault(
    "ModelError",
    "Received client error (404) from primary",
    status=424,
    members={
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
        "LogStreamArn": "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/e",
        "OriginalMessage": "not found",
        "OriginalStatusCode": 404,
    },
)


def test_a_model_error_has_the_runtimes_form() -> None:
    response = rest_json.error_response(MODEL_ERROR, "r-1")
    assert response.status == 424
    assert dict(response.headers) == {
        "x-amzn-RequestId": "r-1",
        "x-amzn-ErrorType": "ModelError",
        "Content-Type": "application/json",
    }
    assert list(json.loads(response.body)) == [
        "ErrorCode",
        "LogStreamArn",
        "Message",
        "OriginalMessage",
        "OriginalStatusCode",
    ]


@pytest.mark.parametrize(
    "error",
    [
        MODEL_ERROR,
        validation_error("Endpoint e of account 1 not found."),
        OurFault("ServiceUnavailable", "Try again", status=503),
    ],
)
def test_errors_are_read_by_botocore(error: ServiceError) -> None:
    response = rest_json.error_response(error, "r-1")
    read = create_parser("rest-json").parse(
        {"status_code": response.status, "headers": HeadersDict(response.headers), "body": response.body},
        BOTOCORE.operation_model("InvokeEndpoint").output_shape,
    )
    assert read["Error"] == {"Code": error.code, "Message": error.message}


def test_a_long_answer_of_a_container_is_cut() -> None:
    error = ModelFault("ModelError", "x" * 5000, status=424, members={"OriginalMessage": "y" * 5000})
    content = json.loads(rest_json.error_response(error, "r-1").body)
    assert (len(content["Message"]), len(content["OriginalMessage"])) == (2048, 2048)


def test_each_error_has_a_sub_code() -> None:
    assert json.loads(rest_json.error_response(validation_error("no"), "r-1").body) == {
        "ErrorCode": "VALIDATION_ERROR",
        "Message": "no",
    }


def test_throttling_has_a_message_of_null() -> None:
    response = rest_json.error_response(ClientFault("ThrottlingException", "slow down"), "r-1")
    assert response.body == b'{"message":null}'
