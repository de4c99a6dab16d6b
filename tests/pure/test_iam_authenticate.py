"""A caller is who signed; each failure has AWS's code and words."""

import hashlib
from collections.abc import Sequence

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from moorage.aws import sigv4
from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Keys, as_json_error, identify

CREDENTIAL = Credential("AKIAMOORAGE000000001", "secret", "123456789012", "admin")
KEYS = Keys({CREDENTIAL.access_key_id: CREDENTIAL})
SIGNED_AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z
BODY_HASH = hashlib.sha256(b"{}").hexdigest()


def a_request(extra: Sequence[tuple[str, str]] = (), credential: Credential = CREDENTIAL) -> HttpRequest:
    headers = [("host", "localhost:8410"), ("x-amz-target", "SageMaker.ListModels")]
    plain = HttpRequest("POST", "/", "", headers)
    added = sigv4.sign(plain, BODY_HASH, credential, region="us-west-2", service="sagemaker", timestamp=SIGNED_AT)
    return HttpRequest("POST", "/", "", [*headers, *added, *extra])


def failure_of(
    request: HttpRequest, body_hash: str = BODY_HASH, now: float = SIGNED_AT, skew: float = 300.0
) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        identify(request, body_hash, KEYS, now=now, skew_seconds=skew)
    return caught.value


@pytest.mark.parametrize("now", [SIGNED_AT - 300, SIGNED_AT, SIGNED_AT + 300])
def test_a_signed_request_has_its_caller(now: float) -> None:
    caller = identify(a_request(), BODY_HASH, KEYS, now=now, skew_seconds=300)
    assert (caller.account, caller.region, caller.service) == ("123456789012", "us-west-2", "sagemaker")


def test_an_unsigned_request_is_missing_its_token() -> None:
    failure = failure_of(HttpRequest("POST", "/", "", [("host", "localhost")]))
    error = as_json_error(failure, 403)
    assert failure.failure is AuthFailure.MISSING
    assert (error.code, error.status) == ("MissingAuthenticationTokenException", 403)
    assert error.message == "Missing Authentication Token"


def test_an_unreadable_signature_is_incomplete() -> None:
    failure = failure_of(HttpRequest("POST", "/", "", [("host", "localhost"), ("authorization", "x")]))
    assert as_json_error(failure, 400).code == "IncompleteSignatureException"


def test_an_unknown_key_is_an_invalid_token() -> None:
    failure = failure_of(a_request(credential=Credential("AKIAOTHER", "secret", "1", "x")))
    error = as_json_error(failure, 400)
    assert (error.code, error.status) == ("UnrecognizedClientException", 400)
    assert error.message == "The security token included in the request is invalid."


def test_a_wrong_secret_does_not_match() -> None:
    stranger = Credential(CREDENTIAL.access_key_id, "guessed", "1", "x")
    error = as_json_error(failure_of(a_request(credential=stranger)), 400)
    assert error.code == "InvalidSignatureException"
    assert error.message.startswith("The request signature we calculated does not match the signature you provided.")


def test_a_changed_body_does_not_match() -> None:
    failure = failure_of(a_request(), body_hash=hashlib.sha256(b"[]").hexdigest())
    assert failure.failure is AuthFailure.BAD_SIGNATURE


def test_an_old_signature_is_expired() -> None:
    failure = failure_of(a_request(), now=SIGNED_AT + 301)
    assert failure.failure is AuthFailure.SKEWED
    assert failure.message == (
        "Signature expired: 20260101T000000Z is now earlier than 20260101T000001Z (20260101T000501Z - 5 min.)"
    )
    assert as_json_error(failure, 400).code == "InvalidSignatureException"


def test_a_signature_of_the_future_is_not_yet_current() -> None:
    failure = failure_of(a_request(), now=SIGNED_AT - 301)
    assert failure.failure is AuthFailure.SKEWED
    assert failure.message == (
        "Signature not yet current: 20260101T000000Z is still later than 20251231T235959Z (20251231T235459Z + 5 min.)"
    )


def test_an_amz_header_that_is_not_signed_is_refused() -> None:
    failure = failure_of(a_request(extra=[("x-amz-other", "1")]))
    assert failure.failure is AuthFailure.BAD_SIGNATURE
    assert failure.message == "'x-amz-other' must be a 'SignedHeader' in the AWS Authorization."


def presigned() -> tuple[HttpRequest, float]:
    request = AWSRequest("GET", "http://localhost/b/k")
    S3SigV4QueryAuth(Credentials(CREDENTIAL.access_key_id, "secret"), "s3", "us-east-1", expires=3600).add_auth(request)
    made = HttpRequest("GET", "/b/k", request.url.partition("?")[2], [("host", "localhost")])
    signature = sigv4.read_signature(made)
    assert signature is not None
    return made, signature.timestamp


def test_a_presigned_url_lives_as_long_as_it_says() -> None:
    request, signed_at = presigned()
    caller = identify(request, "UNSIGNED-PAYLOAD", KEYS, now=signed_at + 3600, skew_seconds=900)
    assert caller.service == "s3"


def test_a_presigned_url_expires() -> None:
    request, signed_at = presigned()
    failure = failure_of(request, "UNSIGNED-PAYLOAD", now=signed_at + 3601, skew=900)
    assert failure.failure is AuthFailure.EXPIRED
