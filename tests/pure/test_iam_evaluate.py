"""The decision: an explicit deny wins, nothing is allowed that no statement allows, every layer must allow.

The oracle is a brute-force version that knows nothing of preparing anything.
"""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.aws.credentials import Credential, Session
from moorage.iam.evaluate import Access, Denial, Source, permissions_of

ACTIONS = ["sagemaker:CreateModel", "sagemaker:ListModels", "s3:GetObject"]
RESOURCES = ["arn:aws:s3:::b/a", "arn:aws:s3:::b/ann/x", "arn:aws:sagemaker:r:1:model/m", "*"]


def caller(*policies: dict[str, Any], session: tuple[dict[str, Any], ...] = ()) -> Credential:
    texts = tuple(json.dumps(policy) for policy in policies)
    limits = tuple(json.dumps(policy) for policy in session)
    return Credential("AKIA", "s", "111111111111", "ann", texts, Session("AKIA", 0, 9, policies=limits))


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def refuse(credential: Credential, action: str, resource: str, **context: str) -> Denial | None:
    known = {name.replace("_", ":"): (value,) for name, value in context.items()}
    return permissions_of(credential).refuse(Access(action, resource, known))


# The brute force


def like(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def fill(pattern: str, context: dict[str, tuple[str, ...]]) -> str | None:
    if "${aws:username}" not in pattern:
        return pattern
    return pattern.replace("${aws:username}", context["aws:username"][0]) if "aws:username" in context else None


def meets(operator: str, wanted: list[str], values: tuple[str, ...]) -> bool:
    quantifier, _, base = operator.rpartition(":")
    stem = base.removesuffix("IfExists")
    if stem == "Null":
        return (wanted == ["true"]) == (not values)
    if not values:
        if quantifier == "ForAllValues" or base != stem:
            return True
        return "Not" in stem and not quantifier
    negated, wild = "Not" in stem, "Like" in stem
    hits = [any(like(w, v) if wild else w == v for w in wanted) for v in values]
    if quantifier == "ForAllValues":
        return all(hit != negated for hit in hits)
    if quantifier == "ForAnyValue":
        return any(hit != negated for hit in hits)
    return any(hits) != negated


def applies(statement: dict[str, Any], action: str, resource: str, context: dict[str, tuple[str, ...]]) -> bool:
    name = "Action" if "Action" in statement else "NotAction"
    hit = any(like(pattern.lower(), action.lower()) for pattern in listed(statement[name]))
    if hit != (name == "Action"):
        return False
    name = "Resource" if "Resource" in statement else "NotResource"
    filled = [fill(pattern, context) for pattern in listed(statement[name])]
    hit = any(pattern is not None and like(pattern, resource) for pattern in filled)
    if name == "NotResource" and None in filled:
        hit = statement["Effect"] == "Allow"
    if hit != (name == "Resource"):
        return False
    return all(
        meets(operator, listed(wanted), context.get(key, ()))
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def verdict(
    policies: list[dict[str, Any]], action: str, resource: str, context: dict[str, tuple[str, ...]]
) -> str | None:
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in policy["Statement"]
        if applies(statement, action, resource, context)
    }
    return "Deny" if "Deny" in effects else "Allow" if effects else None


# Generated policies

action_patterns = st.sampled_from([*ACTIONS, "*", "sagemaker:*", "sagemaker:Create*", "S3:getobject", "s3:?etObject"])
resource_patterns = st.sampled_from(
    [*RESOURCES, "*", "arn:aws:s3:::*", "arn:aws:s3:::b/${aws:username}/*", "arn:aws:sagemaker:*:model/?"]
)
keys = st.sampled_from(["aws:username", "aws:tagkeys", "aws:userid"])
operators = st.builds(
    lambda quantifier, name, suffix: f"{quantifier}{name}{suffix}",
    st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]),
    st.sampled_from(["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"]),
    st.sampled_from(["", "IfExists"]),
)
condition_values = st.lists(st.sampled_from(["ann", "bob", "a*", "?ob", "x"]), min_size=1, max_size=2)
conditions = st.one_of(
    st.just({}),
    st.dictionaries(operators, st.dictionaries(keys, condition_values, min_size=1, max_size=2), max_size=2),
    st.builds(lambda key, value: {"Null": {key: [value]}}, keys, st.sampled_from(["true", "false"])),
)


def some(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(patterns, st.lists(patterns, min_size=1, max_size=2))


statements = st.builds(
    lambda effect, action, actions, resource, resources, condition: {
        "Effect": effect,
        action: actions,
        resource: resources,
        "Condition": condition,
    },
    st.sampled_from(["Allow", "Allow", "Deny"]),
    st.sampled_from(["Action", "Action", "NotAction"]),
    some(action_patterns),
    st.sampled_from(["Resource", "Resource", "NotResource"]),
    some(resource_patterns),
    conditions,
)
policies = st.lists(st.builds(document, statements, statements), min_size=1, max_size=2)
contexts = st.dictionaries(
    keys, st.lists(st.sampled_from(["ann", "bob", "x"]), min_size=1, max_size=1).map(tuple), max_size=3
)


@given(policies, policies, st.sampled_from(ACTIONS), st.sampled_from(RESOURCES), contexts)
def test_the_decision_is_that_of_brute_force(
    own: list[dict[str, Any]],
    session: list[dict[str, Any]],
    action: str,
    resource: str,
    context: dict[str, tuple[str, ...]],
) -> None:
    denial = permissions_of(caller(*own, session=tuple(session))).refuse(Access(action, resource, context))
    layers = [own, *([policy] for policy in session)]
    verdicts = [verdict(layer, action, resource, context) for layer in layers]
    if "Deny" in verdicts:
        source = Source.IDENTITY if verdicts[0] == "Deny" else Source.SESSION
        assert denial == Denial(source, explicit=True)
    elif None in verdicts:
        source = Source.IDENTITY if verdicts[0] is None else Source.SESSION
        assert denial == Denial(source, explicit=False)
    else:
        assert denial is None


# By name

ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def test_a_key_without_policies_may_everything() -> None:
    assert permissions_of(Credential("AKIA", "s", "1", "ann")).unlimited


def test_a_key_with_no_policy_at_all_may_nothing() -> None:
    assert refuse(caller(), "s3:GetObject", "*") == Denial(Source.IDENTITY, explicit=False)


def test_an_explicit_deny_wins_wherever_it_stands() -> None:
    deny = {"Effect": "Deny", "Action": "s3:Get*", "Resource": "*"}
    for own in (caller(document(deny, ALL)), caller(document(ALL), document(deny))):
        assert refuse(own, "s3:GetObject", "*") == Denial(Source.IDENTITY, explicit=True)


def test_names_of_sagemaker_match_in_any_case_and_those_of_s3_do_not() -> None:
    own = caller(document({**ALL, "Resource": ["arn:aws:sagemaker:*:*:endpoint/MyOne", "arn:aws:s3:::b/Key"]}))
    assert refuse(own, "sagemaker:InvokeEndpoint", "arn:aws:sagemaker:r:1:endpoint/myone") is None
    assert refuse(own, "s3:GetObject", "arn:aws:s3:::b/key") is not None


def test_the_texts_are_those_of_aws() -> None:
    access = Access("sagemaker:CreateModel", "arn:x", {})
    assert Denial(Source.IDENTITY, explicit=False).text("U", access) == (
        "User: U is not authorized to perform: sagemaker:CreateModel on resource: arn:x because no identity-based "
        "policy allows the sagemaker:CreateModel action"
    )
    assert (
        Denial(Source.IDENTITY, explicit=True)
        .text("U", access)
        .endswith("on resource: arn:x with an explicit deny in an identity-based policy")
    )
    assert Denial(Source.SESSION, explicit=True).text("U", access).endswith("with an explicit deny in a session policy")


@pytest.mark.parametrize(("user", "allowed"), [("ann", True), ("bob", False)])
def test_a_variable_makes_one_policy_for_all_users(user: str, *, allowed: bool) -> None:
    own = caller(document({**ALL, "Resource": "arn:aws:s3:::b/${aws:username}/*"}))
    assert (refuse(own, "s3:GetObject", "arn:aws:s3:::b/ann/x", aws_username=user) is None) is allowed
