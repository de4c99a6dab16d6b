"""The query protocol travels as botocore writes and reads it; what cannot be read has a clear error."""

from datetime import UTC
from urllib.parse import urlencode

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.shape_values import values_of

from moorage.aws import query
from moorage.aws.errors import ClientFault, OurFault
from moorage.aws.shapes import load_service

SERVICE = load_service("sts")
BOTOCORE = ServiceModel(Loader().load_service_model("sts", "service-2"), "sts")
NAMES = sorted(SERVICE.operations)


def without_empty(value: object) -> object:
    """Leave out what a form cannot tell: empty lists and structures."""
    if isinstance(value, dict):
        kept = {name: without_empty(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner not in ({}, [])}
    if isinstance(value, list):
        return [inner for inner in map(without_empty, value) if inner != {}]
    return value


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_requests_that_botocore_writes_are_read_the_same(name: str, data: st.DataObject) -> None:
    shape = SERVICE.operations[name].input
    assert shape is not None
    members = without_empty(data.draw(values_of(shape)))
    serializer = create_serializer("query", include_validation=False)
    request = serializer.serialize_to_request(members, BOTOCORE.operation_model(name))
    parameters = query.read_form(urlencode(request["body"]))
    operation = query.find_operation(SERVICE, parameters)
    assert (operation.name, query.parse_request(operation, parameters)) == (name, members)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip), st.integers(0, 2**31))
def test_answers_that_we_write_are_read_the_same_by_botocore(text: str, seconds: int) -> None:
    output = {
        "Credentials": {
            "AccessKeyId": text,
            "SecretAccessKey": "<&>",
            "SessionToken": "t",
            "Expiration": float(seconds),
        },
        "PackedPolicySize": 7,
        "AssumedRoleUser": None,
    }
    response = query.success_response(SERVICE.operations["AssumeRole"], output, "id-1", "urn:x")
    read = create_parser("query").parse(
        {"status_code": response.status, "headers": dict(response.headers), "body": response.body},
        BOTOCORE.operation_model("AssumeRole").output_shape,
    )
    assert read["ResponseMetadata"]["RequestId"] == "id-1"
    assert (read["Credentials"]["AccessKeyId"], read["Credentials"]["SecretAccessKey"]) == (text, "<&>")
    assert read["Credentials"]["Expiration"].astimezone(UTC).timestamp() == seconds
    assert read["PackedPolicySize"] == 7


@pytest.mark.parametrize(("fault", "whose"), [(ClientFault("C", "a<b"), "Sender"), (OurFault("O", "a<b"), "Receiver")])
def test_errors_are_read_by_botocore(fault: ClientFault | OurFault, whose: str) -> None:
    response = query.error_response(fault, "id-1", "urn:x")
    read = create_parser("query").parse(
        {"status_code": response.status, "headers": dict(response.headers), "body": response.body}, None
    )
    assert read["Error"] == {"Type": whose, "Code": fault.code, "Message": "a<b"}


def read(form: str) -> dict[str, object]:
    parameters = query.read_form(form)
    return query.parse_request(query.find_operation(SERVICE, parameters), parameters)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("", "MissingAction"),
        ("Action=", "MissingAction"),
        ("Action=None", "InvalidAction"),
        ("Action=GetFederationToken", "InvalidAction"),
        ("Action=AssumeRole&DurationSeconds=ten", "MalformedInput"),
        ("Action=AssumeRole&DurationSeconds=%C2%B2", "MalformedInput"),
        ("Action=AssumeRole&DurationSeconds=-", "MalformedInput"),
        ("Action=AssumeRole&DurationSeconds=" + "9" * 5000, "MalformedInput"),
        ("Action=A&Action=A", "MalformedQueryString"),
        ("Action=%ff", "MalformedQueryString"),
    ],
)
def test_what_cannot_be_read_is_a_clear_error(form: str, code: str) -> None:
    with pytest.raises(ClientFault) as caught:
        read(form)
    assert caught.value.code == code
