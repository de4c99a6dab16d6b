"""Bearer tokens: botocore makes them, ours checks them; whatever is changed in one is refused."""

import re
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.bearer import PREFIX, decode, encode, make_token

from moorage.aws.credentials import Credential, Session
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Caller, Keys
from moorage.iam.bearer import identify_bearer, token_of
from moorage.iam.sessions import make_token as make_session_token

CREDENTIAL = Credential("AKIAMOORAGE000000001", "secret", "123456789012", "admin")
KEYS = Keys({CREDENTIAL.access_key_id: CREDENTIAL}, "moorage's own")


def signed_at(token: str) -> float:
    """Read when a token was made: botocore takes that from the system's clock."""
    found = re.search(r"X-Amz-Date=(\w+)", decode(token))
    assert found is not None
    return datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def caller_of(token: str, later: float = 0.0, keys: Keys = KEYS) -> Caller:
    return identify_bearer(token, keys, now=signed_at(token) + later, skew_seconds=300)


def failure_of(token: str, later: float = 0.0, now: float | None = None) -> AuthFailure:
    moment = signed_at(token) + later if now is None else now
    with pytest.raises(AuthenticationFailed) as caught:
        identify_bearer(token, KEYS, now=moment, skew_seconds=300)
    assert token.removeprefix(PREFIX)[:40] not in caught.value.message
    return caught.value.failure


@pytest.mark.parametrize("later", [-300, 0, 43_200])
def test_token_of_the_sdk_has_its_caller(later: float) -> None:
    caller = caller_of(make_token(CREDENTIAL, region="eu-west-1"), later)
    assert (caller.credential, caller.region, caller.service) == (CREDENTIAL, "eu-west-1", "sagemaker")


def test_token_ends_with_its_expiry() -> None:
    token = make_token(CREDENTIAL, expires=60)
    assert caller_of(token, 60).account == "123456789012"
    assert failure_of(token, 61) is AuthFailure.EXPIRED


def test_token_from_the_future_is_refused() -> None:
    assert failure_of(make_token(CREDENTIAL), -301) is AuthFailure.SKEWED


@pytest.mark.parametrize("expires", [0, -1, 43_201, 604_800, 604_801])
def test_token_of_another_length_of_life_is_refused(expires: int) -> None:
    assert failure_of(make_token(CREDENTIAL, expires=expires)) is AuthFailure.MALFORMED


@pytest.mark.parametrize(
    "token",
    [
        make_token(CREDENTIAL, service="bedrock"),
        make_token(CREDENTIAL, action="ListModels"),
        make_token(CREDENTIAL, host="sagemaker.us-east-1.amazonaws.com"),
        encode(decode(make_token(CREDENTIAL)).removesuffix("&Version=1")),
        encode(decode(make_token(CREDENTIAL)).replace("&Version=1", "&Version=2")),
        encode(decode(make_token(CREDENTIAL)).replace("/?", "/x?")),
        encode(decode(make_token(CREDENTIAL)).replace("/?", "/?Action=CallWithBearerToken&")),
        encode(decode(make_token(CREDENTIAL)).replace("X-Amz-SignedHeaders=host&", "")),
    ],
    ids=["service", "action", "host", "no version", "version", "path", "two actions", "no headers"],
)
def test_token_that_is_for_something_else_is_refused(token: str) -> None:
    assert failure_of(token) is AuthFailure.MALFORMED


@pytest.mark.parametrize(
    "token",
    ["", "sk-proj-1234567890", PREFIX, PREFIX + "%%%", PREFIX + "AAA", encode("é"), encode(""), PREFIX + "A" * 40_000],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        identify_bearer(token, KEYS, now=0.0, skew_seconds=300)
    assert caught.value.failure is AuthFailure.MALFORMED


def test_token_without_a_signature_is_refused() -> None:
    token = encode("sagemaker.amazonaws.com/?Action=CallWithBearerToken&Version=1")
    assert failure_of(token, now=0.0) is AuthFailure.MALFORMED


def test_unknown_key_and_wrong_secret_are_refused() -> None:
    stranger = Credential("AKIASTRANGER", "secret", "1", "x")
    guesser = Credential(CREDENTIAL.access_key_id, "guessed", "1", "x")
    assert failure_of(make_token(stranger)) is AuthFailure.UNKNOWN_KEY
    assert failure_of(make_token(guesser)) is AuthFailure.BAD_SIGNATURE


@given(st.data())
def test_no_changed_token_is_good(data: st.DataObject) -> None:
    token = make_token(CREDENTIAL)
    url = decode(token)
    place = data.draw(st.integers(0, len(url) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda each: each != url[place]))
    changed = url[:place] + other + url[place + 1 :]
    assume(unquote(changed) != unquote(url))
    with pytest.raises(AuthenticationFailed):
        identify_bearer(encode(changed), KEYS, now=signed_at(token), skew_seconds=300)


def session_of(token_secret: str, lasts: float, now: float) -> tuple[Credential, str]:
    session = Session(CREDENTIAL.access_key_id, now, now + lasts, "moorage", "me")
    secret, token = make_session_token(token_secret, "ASIASESSION", session)
    return Credential("ASIASESSION", secret, "123456789012", "admin"), token


def test_temporary_credentials_make_tokens_that_end_with_them() -> None:
    now = signed_at(make_token(CREDENTIAL))
    temporary, session_token = session_of("moorage's own", 900, now)
    token = make_token(temporary, session_token)
    caller = identify_bearer(token, KEYS, now=now, skew_seconds=300)
    assert caller.credential.user_arn == "arn:aws:sts::123456789012:assumed-role/moorage/me"
    assert failure_of(token, now=now + 901) is AuthFailure.EXPIRED_TOKEN


def test_session_token_of_somebody_else_is_refused() -> None:
    temporary, session_token = session_of("another's", 900, signed_at(make_token(CREDENTIAL)))
    assert failure_of(make_token(temporary, session_token)) is AuthFailure.BAD_TOKEN


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("AWS4-HMAC-SHA256 Credential=x", None),
        ("Basic abc", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", ""),
    ],
)
def test_authorization_header_is_read(header: str | None, token: str | None) -> None:
    assert token_of(header) == token
