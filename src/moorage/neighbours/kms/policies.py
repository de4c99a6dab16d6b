"""The policy of a key: the one that KMS gives each key unless it is told otherwise, and no other.

It leaves everything to the policies of the account's users, which is what Moorage evaluates. Another one would have to
be evaluated; until it is, it is refused.
"""

import json
from typing import Any

from moorage.aws.arns import partition_of
from moorage.aws.errors import ClientFault
from moorage.kms.records import Home
from moorage.neighbours.kms.desk import Desk, Members
from moorage.neighbours.kms.faults import unsupported

_NAME = "default"


def get_key_policy(desk: Desk, members: Members) -> dict[str, Any]:
    """Give the policy of a key."""
    _check_name(members)
    key = desk.key("GetKeyPolicy", members["KeyId"])
    return {"Policy": json.dumps(_default_policy(key.home), indent=2), "PolicyName": _NAME}


def put_key_policy(desk: Desk, members: Members) -> dict[str, Any]:
    """Give a key the policy that it has."""
    _check_name(members)
    desk.key("PutKeyPolicy", members["KeyId"])
    check_policy(members["Policy"], desk.call.account)
    return {}


def list_key_policies(desk: Desk, members: Members) -> dict[str, Any]:
    """Name the one policy that a key has."""
    desk.key("ListKeyPolicies", members["KeyId"])
    return {"PolicyNames": [_NAME], "Truncated": False}


def check_policy(text: str, account: str) -> None:
    """Refuse a policy that says something else than the default one.

    Raises MalformedPolicyDocumentException, UnsupportedOperationException.
    """
    try:
        document = json.loads(text)
        statements = document["Statement"]
        (statement,) = statements if isinstance(statements, list) else [statements]
        meaning = {name: _single(statement[name]) for name in ("Effect", "Action", "Resource")}
        principal = _single(statement["Principal"]["AWS"])
    except json.JSONDecodeError as fault:
        raise ClientFault("MalformedPolicyDocumentException", "The policy is not valid JSON.") from fault
    except (KeyError, TypeError, ValueError) as fault:
        raise _other_policy(account) from fault
    allows_all = meaning == {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    root = principal == account or (str(principal).startswith("arn:") and str(principal).endswith(f"::{account}:root"))
    if not allows_all or not root or "Condition" in statement:
        raise _other_policy(account)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _other_policy(account: str) -> ClientFault:
    return unsupported(
        "policies of keys other than the one that allows kms:* on * to the account itself "
        f"(arn:aws:iam::{account}:root): say in the policies of users what they may do with which key"
    )


def _check_name(members: Members) -> None:
    if members.get("PolicyName", _NAME) != _NAME:
        raise ClientFault("NotFoundException", "No such policy exists")


def _default_policy(home: Home) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [
            {
                "Sid": "Enable IAM User Permissions",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition_of(home.region)}:iam::{home.account}:root"},
                "Action": "kms:*",
                "Resource": "*",
            }
        ],
    }
