"""A session token is good for its key, until it ends, and cannot be made or changed by anybody else."""

import base64

import pytest

from moorage.aws.credentials import Credential, Session
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Caller, Keys, as_json_error
from moorage.iam.context import make_context, user_id
from moorage.iam.sessions import TokenTooLong, make_token

PARENT = Credential("AKIAPARENT", "s", "111111111111", "ann", ('{"Statement": []}',))
SESSION = Session("AKIAPARENT", 1000.0, 2000.0, "team/deployer", "build-7", ('{"a": 1}',))
KEYS = Keys({PARENT.access_key_id: PARENT}, "server secret")
SECRET, TOKEN = make_token("server secret", "ASIA1", SESSION)


def failure_of(keys: Keys, key_id: str, token: str | None, now: float = 1500.0) -> AuthFailure:
    with pytest.raises(AuthenticationFailed) as caught:
        keys.find(key_id, token, now)
    return caught.value.failure


def test_a_token_gives_back_its_session_and_its_parents_policies() -> None:
    found = KEYS.find("ASIA1", TOKEN, 1999.0)
    assert (found.session, found.policies) == (SESSION, PARENT.policies)
    assert (found.secret_access_key, found.account_id) == (SECRET, "111111111111")
    assert len(SECRET) == 40


def test_a_role_has_its_own_names() -> None:
    found = KEYS.find("ASIA1", TOKEN, 1500.0)
    assert found.user_arn == "arn:aws:sts::111111111111:assumed-role/deployer/build-7"
    assert found.principal_arn == "arn:aws:iam::111111111111:role/team/deployer"
    assert user_id(found).startswith("AROA")
    assert user_id(found).endswith(":build-7")
    context = make_context(Caller(found, "us-east-1", "sts"), now=1500.0, source_ip="127.0.0.1", secure=False)
    assert context["aws:principaltype"] == ("AssumedRole",)
    assert context["aws:sourceip"] == ("127.0.0.1",)
    assert "aws:username" not in context


def test_the_end_comes_with_awss_words() -> None:
    assert failure_of(KEYS, "ASIA1", TOKEN, now=2000.0) is AuthFailure.EXPIRED_TOKEN
    with pytest.raises(AuthenticationFailed) as caught:
        KEYS.find("ASIA1", TOKEN, 2000.0)
    error = as_json_error(caught.value, 400)
    assert error.code == "ExpiredTokenException"
    assert error.message == "The security token included in the request is expired"


@pytest.mark.parametrize("token", ["", "x", "AAAA", "ä", TOKEN[:-4], TOKEN + "AAAA", "A" * 100_000])
def test_another_token_is_invalid(token: str) -> None:
    assert failure_of(KEYS, "ASIA1", token) is AuthFailure.BAD_TOKEN


def test_no_byte_of_a_token_can_be_changed() -> None:
    content = base64.urlsafe_b64decode(TOKEN)
    for place in range(len(content)):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        assert failure_of(KEYS, "ASIA1", base64.urlsafe_b64encode(changed).decode()) is AuthFailure.BAD_TOKEN


@pytest.mark.parametrize(
    ("keys", "key_id", "token", "expected"),
    [
        (KEYS, "ASIA2", TOKEN, AuthFailure.BAD_TOKEN),
        (KEYS, "AKIAPARENT", TOKEN, AuthFailure.BAD_TOKEN),
        (KEYS, "ASIA1", None, AuthFailure.UNKNOWN_KEY),
        (Keys(KEYS.credentials, "another secret"), "ASIA1", TOKEN, AuthFailure.BAD_TOKEN),
        (Keys(KEYS.credentials), "ASIA1", TOKEN, AuthFailure.BAD_TOKEN),
        (Keys({}, "server secret"), "ASIA1", TOKEN, AuthFailure.BAD_TOKEN),
    ],
)
def test_a_token_is_good_for_its_key_alone(keys: Keys, key_id: str, token: str, expected: AuthFailure) -> None:
    assert failure_of(keys, key_id, token) is expected


def test_an_empty_server_secret_makes_no_good_tokens() -> None:
    _, forged = make_token("", "ASIA1", SESSION)
    assert failure_of(Keys(KEYS.credentials), "ASIA1", forged) is AuthFailure.BAD_TOKEN


def test_a_token_has_a_greatest_length() -> None:
    policies = tuple(str(number) + "x" * 40 for number in range(9000))
    with pytest.raises(TokenTooLong):
        make_token("s", "ASIA1", Session("AKIA", 0, 1, policies=policies))
