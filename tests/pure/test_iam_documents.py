"""A policy with anything that nobody would look at is refused when it is made."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.iam.documents import FULL_ACCESS, MOST_CHARACTERS, MalformedPolicy, read_policy

ALLOW = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}


def policy(*statements: Any, **more: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **more})


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ALLOW.items() if key != name}


@pytest.mark.parametrize(
    "text",
    [
        FULL_ACCESS,
        policy(ALLOW),
        json.dumps({"Statement": ALLOW}),
        policy({**ALLOW, "Sid": "One"}, {**ALLOW, "Sid": "Two"}, Id="mine"),
        policy({**without("Action"), "NotAction": ["iam:*", "sts:Get?aller*"]}),
        policy({**without("Resource"), "NotResource": ["arn:aws:s3:::b/${aws:username}/*"]}),
        policy({**ALLOW, "Condition": {"StringLike": {"aws:RequestTag/team": ["a*"]}, "Bool": {"ec2:Thing": "true"}}}),
    ],
)
def test_a_policy_is_read(text: str) -> None:
    assert read_policy(text).statements


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 5000, "not valid JSON"),
        ('{"Statement": {"Effect": "Allow", "Effect": "Deny"}}', "occurs twice"),
        ('{"Statement": [NaN]}', "NaN"),
        ("{}", "Statement"),
        (policy(), "Statement"),
        (policy("x"), "Statement"),
        (policy(ALLOW, Version="2020-01-01"), "valid version"),
        (policy(ALLOW, Comment="x"), '"Comment"'),
        (policy({**ALLOW, "Effekt": "Allow"}), '"Effekt"'),
        (policy({**ALLOW, "Principal": "*"}), "principal"),
        (policy({**ALLOW, "Effect": "allow"}), "Effect"),
        (policy(without("Action")), "either Action or NotAction"),
        (policy({**ALLOW, "NotAction": "*"}), "either Action or NotAction"),
        (policy(without("Resource")), "either Resource or NotResource"),
        (policy({**ALLOW, "Action": "CreateEndpoint"}), "vendor"),
        (policy({**ALLOW, "Action": []}), "Action"),
        (policy({**ALLOW, "Action": [1]}), "Action"),
        (policy({**ALLOW, "Resource": "endpoint/x"}), "ARN format"),
        (policy({**ALLOW, "Resource": "arn:aws:s3:::${aws:nosuch}"}), "aws:nosuch"),
        (policy({**ALLOW, "Sid": "a b"}), "alpha-numeric"),
        (policy({**ALLOW, "Sid": "a"}, {**ALLOW, "Sid": "a"}), "unique"),
        (policy({**ALLOW, "Condition": []}), "Condition"),
        (policy({**ALLOW, "Condition": {"StringEquals": "x"}}), "Condition"),
        (policy({**ALLOW, "Condition": {"StringSounds": {"aws:username": "x"}}}), "StringSounds"),
        (policy({**ALLOW, "Condition": {"StringEquals": {"username": "x"}}}), "username"),
        (policy({**ALLOW, "Condition": {"StringEquals": {"aws:SourceVpc": "x"}}}), "aws:SourceVpc"),
        (policy({**ALLOW, "Condition": {"StringEquals": {"sagemaker:Nosuch": "x"}}}), "sagemaker:Nosuch"),
        (policy({**ALLOW, "Resource": ["arn:" + "x" * MOST_CHARACTERS]}), "longer"),
    ],
)
def test_a_malformed_policy_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(MalformedPolicy) as caught:
        read_policy(text)
    assert why in caught.value.message


def test_the_older_version_has_no_variables() -> None:
    text = json.dumps({"Statement": {**ALLOW, "Resource": "arn:aws:s3:::b/${aws:nosuch}"}})
    (statement,) = read_policy(text).statements
    assert statement.resources[0].matches("arn:aws:s3:::b/${aws:nosuch}", {})


@pytest.mark.parametrize(
    ("statement", "looks"),
    [
        (ALLOW, False),
        ({**ALLOW, "Condition": {"StringEquals": {"aws:ResourceTag/a": "x"}}}, True),
        ({**ALLOW, "Condition": {"StringEquals": {"aws:username": "${sagemaker:ResourceTag/a}"}}}, True),
        ({**ALLOW, "Resource": "arn:aws:s3:::${aws:resourcetag/a}"}, True),
    ],
)
def test_whether_resource_tags_count_is_known(statement: dict[str, Any], *, looks: bool) -> None:
    assert read_policy(policy(statement)).looks_at_resource_tags is looks


MEMBERS = ["Effect", "Action", "NotAction", "Resource", "NotResource", "Condition", "Sid", "Version", "Statement"]
pieces = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from(
            ["*", "Allow", "Deny", "sagemaker:*", "arn:aws:s3:::${aws:username}", "${", "2012-10-17", "a:b", ""]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [*MEMBERS, "StringLike", "ForAllValues:ArnLike", "NumericEquals", "Null", "aws:username", "x:y"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=25,
)


@given(pieces, st.sampled_from(MEMBERS), pieces)
def test_whatever_it_is_it_is_read_or_refused(statement: Any, member: str, value: Any) -> None:
    for content in (statement, {**ALLOW, member: value}):
        with contextlib.suppress(MalformedPolicy):
            read_policy(policy(content))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for document in (text, policy({**ALLOW, "Resource": "arn:" + text}), policy({**ALLOW, "Action": text})):
        with contextlib.suppress(MalformedPolicy):
            read_policy(document)
