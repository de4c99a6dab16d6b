"""What botocore writes we read the same, what we write botocore reads the same; what is not clear is refused."""

import contextlib
import json
from typing import Any

import pytest
from botocore.awsrequest import HeadersDict
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.shape_values import values_of, with_seconds

from moorage.aws import json11
from moorage.aws.errors import ClientFault, ServiceError, validation_exception
from moorage.aws.shapes import load_service

SERVICE = load_service("sagemaker")
BOTOCORE = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")
EVERY_OPERATION = sorted(SERVICE.operations)


@pytest.mark.parametrize("name", EVERY_OPERATION)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_requests_that_botocore_writes_are_read_the_same(name: str, data: st.DataObject) -> None:
    operation = SERVICE.operations[name]
    assert operation.input is not None
    given_by_user = data.draw(values_of(operation.input))
    serializer = create_serializer("json", include_validation=False)
    request = serializer.serialize_to_request(given_by_user, BOTOCORE.operation_model(name))
    found = json11.find_operation(SERVICE, request["headers"]["X-Amz-Target"], SERVICE.operations)
    assert found is operation
    assert json11.parse_request(operation, request["body"]) == with_seconds(given_by_user)


@pytest.mark.parametrize("name", [name for name in EVERY_OPERATION if SERVICE.operations[name].output])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_answers_that_we_write_are_read_the_same_by_botocore(name: str, data: st.DataObject) -> None:
    operation = SERVICE.operations[name]
    assert operation.output is not None
    output = data.draw(values_of(operation.output))
    response = json11.success_response(operation, with_seconds(output), "11111111-2222-3333-4444-555555555555")
    read = create_parser("json").parse(
        {"status_code": response.status, "headers": HeadersDict(response.headers), "body": response.body},
        BOTOCORE.operation_model(name).output_shape,
    )
    assert read.pop("ResponseMetadata")["RequestId"] == "11111111-2222-3333-4444-555555555555"
    assert read == output


@pytest.mark.parametrize("name", ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"])
def test_operations_without_output_answer_an_empty_body(name: str) -> None:
    assert json11.serialize_output(SERVICE.operations[name], {}) == b""


def test_times_are_written_with_milliseconds_and_none_is_left_out() -> None:
    output = {"ModelName": "m", "CreationTime": 1529870369.98649, "ExecutionRoleArn": None}
    body = json11.serialize_output(SERVICE.operations["DescribeModel"], output)
    assert body == b'{"ModelName":"m","CreationTime":1529870369.986}'


def test_a_member_that_the_model_does_not_have_is_our_mistake() -> None:
    with pytest.raises(KeyError):
        json11.serialize_output(SERVICE.operations["DescribeModel"], {"Modelname": "m"})


def parse(name: str, body: bytes) -> dict[str, Any]:
    return json11.parse_request(SERVICE.operations[name], body)


def refusal(name: str, body: bytes) -> str:
    with pytest.raises(ClientFault) as caught:
        parse(name, body)
    assert (caught.value.code, caught.value.status) == ("SerializationException", 400)
    return caught.value.message


@pytest.mark.parametrize("body", [b"", b"  ", b"{}"])
def test_an_empty_body_is_an_empty_request(body: bytes) -> None:
    assert parse("ListModels", body) == {}


def test_null_is_absent_and_unknown_members_are_ignored() -> None:
    assert parse("ListModels", b'{"SortBy":null,"Newer":{"a":[1]},"MaxResults":3}') == {"MaxResults": 3}


@pytest.mark.parametrize("text", ["1529870369.5", '"2018-06-24T19:59:29.5Z"', '"2018-06-24T19:59:29.500+00:00"'])
def test_times_may_be_numbers_or_dates(text: str) -> None:
    body = b'{"CreationTimeAfter":' + text.encode() + b"}"
    assert parse("ListModels", body) == {"CreationTimeAfter": 1529870369.5}


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("ListModels", b'{"MaxResults":"5"}', "STRING_VALUE can not be converted to an Integer"),
        ("ListModels", b'{"MaxResults":true}', "TRUE_VALUE can not be converted to an Integer"),
        ("ListModels", b'{"MaxResults":1.5}', "NUMBER_VALUE can not be converted to an Integer"),
        ("ListModels", b'{"MaxResults":2147483648}', "NUMBER_VALUE can not be converted to an Integer"),
        ("ListModels", b'{"MaxResults":{}}', "Start of structure or map found where not expected."),
        ("ListModels", b'{"MaxResults":[]}', "Start of list found where not expected."),
        ("ListModels", b'{"NameContains":5}', "NUMBER_VALUE can not be converted to a String"),
        ("ListModels", b'{"CreationTimeAfter":"soon"}', "STRING_VALUE can not be converted to a Timestamp"),
        ("ListModels", b'{"CreationTimeAfter":1e300}', "NUMBER_VALUE can not be converted to a Timestamp"),
        ("CreateModel", b'{"EnableNetworkIsolation":"no"}', "STRING_VALUE can not be converted to a Boolean"),
        ("CreateModel", b'{"PrimaryContainer":"image"}', "STRING_VALUE can not be converted to a structure"),
        ("CreateModel", b'{"Containers":"image"}', "STRING_VALUE can not be converted to a list"),
        ("CreateModel", b'{"PrimaryContainer":{"Environment":1}}', "NUMBER_VALUE can not be converted to a map"),
        (
            "UpdateEndpointWeightsAndCapacities",
            b'{"DesiredWeightsAndCapacities":[{"DesiredWeight":1e39}]}',
            "NUMBER_VALUE can not be converted to a Float",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_aws_words(name: str, body: bytes, words: str) -> None:
    assert refusal(name, body) == words


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b'{"a":1',
        b'{"a":1}}',
        b'{"MaxResults":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"SortBy":"Name","SortBy":"Name"}',
        b'{"x":{"a":1,"a":2}}',
        rb'{"NameContains":"\ud800"}',
        b'{"NameContains":"\xed\xa0\x80"}',
        b'{"NameContains":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
        b"[" * 500_000,
        b'{"a":' * 100_000,
    ],
)
def test_a_body_that_is_not_clear_json_is_refused(body: bytes) -> None:
    assert refusal("ListModels", body)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with contextlib.suppress(ClientFault):
        parse("CreateModel", body)


@pytest.mark.parametrize(
    "target",
    [None, "", "SageMaker", "SageMaker.", "SageMaker.NoSuch", "Other.ListModels", "SageMaker.ListModels.x", "é"],
)
def test_an_unknown_target_is_an_unknown_operation(target: str | None) -> None:
    with pytest.raises(ClientFault) as caught:
        json11.find_operation(SERVICE, target, SERVICE.operations)
    assert (caught.value.code, caught.value.status) == ("UnknownOperationException", 400)


@pytest.mark.parametrize("name", ["CreateTrainingJob", "UpdateEndpoint"])
def test_an_operation_that_only_sagemaker_has_is_told_so(name: str) -> None:
    with pytest.raises(ClientFault) as caught:
        json11.find_operation(SERVICE, f"SageMaker.{name}", ["ListModels"])
    assert caught.value.code == "UnknownOperationException"
    assert caught.value.message == f"Moorage does not have the operation {name} of Amazon SageMaker Service."


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (validation_exception('Could not find model "m".'), 400),
        (ServiceError("ResourceLimitExceeded", "too much"), 400),
        (ServiceError("InternalFailure", "sorry", status=500), 500),
    ],
)
def test_errors_are_read_by_botocore(error: ServiceError, status: int) -> None:
    response = json11.error_response(error, "r-1")
    read = create_parser("json").parse(
        {"status_code": response.status, "headers": HeadersDict(response.headers), "body": response.body},
        BOTOCORE.operation_model("CreateModel").output_shape,
    )
    assert read["Error"] == {"Code": error.code, "Message": error.message}
    assert read["ResponseMetadata"]["HTTPStatusCode"] == status
    assert dict(response.headers)["x-amzn-RequestId"] == "r-1"
    assert dict(response.headers)["x-amzn-ErrorType"] == error.code
    assert json.loads(response.body)["Message"] == error.message
