"""Signatures that botocore makes are accepted, in all forms; each change of a signed part is refused."""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.aws import sigv4
from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, MalformedSignature, Signature

CREDENTIAL = Credential("AKIAMOORAGE000000001", "secret/with+signs", "000000000000", "admin")
BOTO_CREDENTIAL = Credentials(CREDENTIAL.access_key_id, CREDENTIAL.secret_access_key)
HOST = "127.0.0.1:8410"
EMPTY_HASH = hashlib.sha256().hexdigest()


def received(request: AWSRequest) -> HttpRequest:
    """Give what a server receives of a request that botocore has signed."""
    parts = urlsplit(request.url)
    headers = [(name.lower(), str(value)) for name, value in request.headers.items()]
    return HttpRequest(request.method, parts.path or "/", parts.query, [("host", HOST), *headers])


def signed_by_botocore(
    auth_class: Any,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    service: str = "sagemaker",
    **options: Any,
) -> HttpRequest:
    request = AWSRequest(method=method, url=url, headers=dict(headers or {}), data=body)
    auth_class(BOTO_CREDENTIAL, service, "us-east-1", **options).add_auth(request)
    return received(request)


def signature_of(request: HttpRequest) -> Signature:
    signature = sigv4.read_signature(request)
    assert signature is not None
    return signature


def is_accepted(request: HttpRequest, payload_sha256: str) -> bool:
    signature = signature_of(request)
    return sigv4.verify(signature, request, payload_sha256, CREDENTIAL.secret_access_key)


def without_header(request: HttpRequest, name: str) -> HttpRequest:
    headers = [header for header in request.headers if header[0] != name]
    return HttpRequest(request.method, request.path, request.query, headers)


names = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=12)
encoded_paths = st.lists(
    names.filter(lambda name: name not in {".", ".."}).map(lambda name: quote(name, safe="~")), max_size=4
).map(lambda segments: "/" + "/".join(segments))
encoded_queries = st.lists(st.tuples(names, names), max_size=4).map(
    lambda pairs: "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
some_headers = st.dictionaries(
    st.sampled_from(["Content-Type", "X-Amzn-SageMaker-Custom-Attributes", "X-Amz-Meta-A"]), header_values
)


@settings(deadline=None)
@given(encoded_paths, encoded_queries, some_headers, st.binary(max_size=50))
def test_what_botocore_signs_in_headers_is_accepted(
    path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    request = signed_by_botocore(SigV4Auth, "POST", f"http://{HOST}{path}?{query}", headers, body)
    assert is_accepted(request, hashlib.sha256(body).hexdigest())


@settings(deadline=None)
@given(encoded_paths, encoded_queries, some_headers, st.binary(max_size=50))
def test_what_botocore_signs_for_s3_is_accepted(path: str, query: str, headers: dict[str, str], body: bytes) -> None:
    request = signed_by_botocore(S3SigV4Auth, "PUT", f"http://{HOST}{path}?{query}", headers, body, service="s3")
    signature = signature_of(request)
    assert signature.payload_hash == hashlib.sha256(body).hexdigest()
    assert is_accepted(request, signature.payload_hash)


@settings(deadline=None)
@given(encoded_paths, encoded_queries)
def test_what_botocore_presigns_is_accepted(path: str, query: str) -> None:
    request = signed_by_botocore(SigV4QueryAuth, "GET", f"http://{HOST}{path}?{query}", expires=600)
    signature = signature_of(request)
    assert (signature.presigned, signature.expires_seconds, signature.payload_hash) == (True, 600, None)
    assert is_accepted(request, EMPTY_HASH)


@settings(deadline=None)
@given(encoded_paths, encoded_queries)
def test_what_botocore_presigns_for_s3_is_accepted(path: str, query: str) -> None:
    url = f"http://{HOST}{path}?{query}"
    request = signed_by_botocore(S3SigV4QueryAuth, "GET", url, service="s3", expires=600)
    signature = signature_of(request)
    assert signature.payload_hash == sigv4.UNSIGNED_PAYLOAD
    assert is_accepted(request, signature.payload_hash)


@settings(deadline=None)
@given(encoded_paths, encoded_queries, some_headers, st.binary(max_size=50))
def test_what_we_sign_is_what_botocore_would_sign(path: str, query: str, headers: dict[str, str], body: bytes) -> None:
    by_botocore = signed_by_botocore(SigV4Auth, "POST", f"http://{HOST}{path}?{query}", headers, body)
    theirs = signature_of(by_botocore)
    plain = without_header(without_header(by_botocore, "authorization"), "x-amz-date")
    added = sigv4.sign(
        plain,
        hashlib.sha256(body).hexdigest(),
        CREDENTIAL,
        region="us-east-1",
        service="sagemaker",
        timestamp=theirs.timestamp,
    )
    signed = HttpRequest(plain.method, plain.path, plain.query, [*plain.headers, *added])
    assert signature_of(signed).signature == theirs.signature


def an_invocation() -> HttpRequest:
    headers = {"Content-Type": "text/csv", "X-Amzn-SageMaker-Target-Variant": "blue"}
    return signed_by_botocore(SigV4Auth, "POST", f"http://{HOST}/endpoints/e/invocations?a=1", headers, b"1,2")


BODY_HASH = hashlib.sha256(b"1,2").hexdigest()


def test_an_untouched_request_is_accepted() -> None:
    assert is_accepted(an_invocation(), BODY_HASH)


def test_a_changed_method_is_refused() -> None:
    request = an_invocation()
    assert not is_accepted(HttpRequest("PUT", request.path, request.query, request.headers), BODY_HASH)


@pytest.mark.parametrize(
    "path", ["/endpoints/f/invocations", "/endpoints/e/invocations/", "/", "/endpoints/e%2Finvocations"]
)
def test_a_changed_path_is_refused(path: str) -> None:
    request = an_invocation()
    assert not is_accepted(HttpRequest("POST", path, request.query, request.headers), BODY_HASH)


@pytest.mark.parametrize("query", ["", "a=2", "a=1&b=2", "a=1&a=1"])
def test_a_changed_query_is_refused(query: str) -> None:
    request = an_invocation()
    assert not is_accepted(HttpRequest("POST", request.path, query, request.headers), BODY_HASH)


@pytest.mark.parametrize("name", ["host", "content-type", "x-amzn-sagemaker-target-variant", "x-amz-date"])
def test_a_changed_signed_header_is_refused(name: str) -> None:
    request = an_invocation()
    headers = [
        (header, value.replace("0", "1").replace("2", "3") + ("" if header == "x-amz-date" else "x"))
        if header == name
        else (header, value)
        for header, value in request.headers
    ]
    changed = HttpRequest("POST", request.path, request.query, headers)
    with pytest.raises((AssertionError, MalformedSignature)):
        assert is_accepted(changed, BODY_HASH)


@pytest.mark.parametrize("name", ["host", "content-type", "x-amzn-sagemaker-target-variant"])
def test_a_removed_signed_header_is_refused(name: str) -> None:
    assert not is_accepted(without_header(an_invocation(), name), BODY_HASH)


def test_a_doubled_signed_header_is_refused() -> None:
    request = an_invocation()
    headers = [*request.headers, ("content-type", "text/csv")]
    assert not is_accepted(HttpRequest("POST", request.path, request.query, headers), BODY_HASH)


def test_a_changed_body_is_refused() -> None:
    assert not is_accepted(an_invocation(), hashlib.sha256(b"1,3").hexdigest())


def test_another_secret_is_refused() -> None:
    request = an_invocation()
    assert not sigv4.verify(signature_of(request), request, BODY_HASH, "another")


def test_headers_that_are_not_signed_may_be_added() -> None:
    request = an_invocation()
    headers = [*request.headers, ("user-agent", "x"), ("x-forwarded-for", "1.2.3.4")]
    assert is_accepted(HttpRequest("POST", request.path, request.query, headers), BODY_HASH)


def test_an_unsigned_amz_header_is_told() -> None:
    request = an_invocation()
    headers = [*request.headers, ("x-amz-target", "SageMaker.DeleteModel")]
    changed = HttpRequest("POST", request.path, request.query, headers)
    assert sigv4.unsigned_headers(signature_of(changed), changed) == ["x-amz-target"]


def test_a_path_that_a_client_encoded_less_is_accepted_for_s3() -> None:
    signed = signed_by_botocore(S3SigV4Auth, "GET", f"http://{HOST}/bucket/a%28b%29", service="s3")
    sent = HttpRequest("GET", "/bucket/a(b)", "", signed.headers)
    assert is_accepted(sent, EMPTY_HASH)


def test_s3_keeps_dots_and_double_slashes_apart() -> None:
    signed = signed_by_botocore(S3SigV4Auth, "GET", f"http://{HOST}/bucket/a//b", service="s3")
    assert is_accepted(signed, EMPTY_HASH)
    assert not is_accepted(HttpRequest("GET", "/bucket/a/b", "", signed.headers), EMPTY_HASH)


def test_the_example_of_aws_is_accepted() -> None:
    """The "get-vanilla" case of AWS's published test suite."""
    authorization = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    headers = [
        ("host", "example.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        ("authorization", authorization),
    ]
    request = HttpRequest("GET", "/", "", headers)
    signature = signature_of(request)
    assert sigv4.verify(signature, request, EMPTY_HASH, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def test_what_the_javascript_sdk_signs_is_accepted() -> None:
    headers = [
        ("amz-sdk-invocation-id", "0f0e"),
        ("amz-sdk-request", "attempt=1; max=3"),
        ("content-length", "3"),
        ("content-type", "application/octet-stream"),
        ("host", HOST),
        ("x-amz-content-sha256", BODY_HASH),
        ("x-amz-user-agent", "aws-sdk-js/3.1162.0"),
    ]
    plain = HttpRequest("POST", "/endpoints/e/invocations", "", headers)
    added = sigv4.sign(plain, BODY_HASH, CREDENTIAL, region="eu-west-1", service="sagemaker", timestamp=1.8e9)
    request = HttpRequest("POST", plain.path, "", [*headers, *added])
    assert is_accepted(request, BODY_HASH)
    assert signature_of(request).payload_hash == BODY_HASH


def test_a_request_without_signature_has_none() -> None:
    assert sigv4.read_signature(HttpRequest("GET", "/", "a=b", [("host", HOST)])) is None


SCOPE = "AKID/20260101/us-east-1/sagemaker/aws4_request"


@pytest.mark.parametrize(
    ("authorization", "part"),
    [
        ("Bearer abc", "Authorization header requires 'Credential' parameter."),
        ("AWS4-HMAC-SHA256", "Authorization header requires 'Signature' parameter."),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE}, Signature=0", "requires 'SignedHeaders' parameter."),
        (f"AWS4-HMAC-MD5 Credential={SCOPE}, SignedHeaders=host, Signature=0", "Unsupported AWS 'algorithm'"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "exactly 5 slash-delimited"),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE}x, SignedHeaders=host, Signature=0", "valid terminator"),
        (
            "AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/s/aws4_request, SignedHeaders=host, Signature=0",
            "'20260102' != '20260101', from '20260101T000000Z'.",
        ),
    ],
)
def test_an_unreadable_signature_is_told_in_aws_words(authorization: str, part: str) -> None:
    headers = [("host", HOST), ("x-amz-date", "20260101T000000Z"), ("authorization", authorization)]
    with pytest.raises(MalformedSignature) as caught:
        sigv4.read_signature(HttpRequest("POST", "/", "", headers))
    assert part in caught.value.message


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255), max_size=200), st.text(max_size=20))
def test_no_authorization_breaks_the_reader(authorization: str, date: str) -> None:
    headers = [("host", HOST), ("x-amz-date", date), ("authorization", authorization)]
    with pytest.raises(MalformedSignature):
        sigv4.read_signature(HttpRequest("POST", "/", "", headers))


@pytest.mark.parametrize("expires", ["-1", "604801", "soon", ""])
def test_an_expiry_beyond_a_week_or_unreadable_is_refused(expires: str) -> None:
    query = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(SCOPE, safe='')}&X-Amz-Date=20260101T000000Z"
        f"&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires={expires}"
    )
    with pytest.raises(MalformedSignature, match="X-Amz-Expires"):
        sigv4.read_signature(HttpRequest("GET", "/", query, [("host", HOST)]))
