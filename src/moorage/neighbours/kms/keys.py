"""Operations on keys themselves."""

from typing import Any

from moorage.aws.errors import ClientFault
from moorage.iam.context import request_tags
from moorage.kms.records import Key, KeyState
from moorage.kms.ring import DAY_SECONDS
from moorage.neighbours.kms.desk import Desk, Members, page, refuse_unbuilt
from moorage.neighbours.kms.faults import unsupported, validation
from moorage.neighbours.kms.policies import check_policy
from moorage.neighbours.kms.tags import read_tags

SYMMETRIC = "SYMMETRIC_DEFAULT"

_ONLY = {
    "KeyUsage": "ENCRYPT_DECRYPT",
    "KeySpec": SYMMETRIC,
    "CustomerMasterKeySpec": SYMMETRIC,
    "Origin": "AWS_KMS",
}
_LEAST_DAYS = 7
_MOST_DAYS = 30


def create_key(desk: Desk, members: Members) -> dict[str, Any]:
    """Make a symmetric key."""
    refuse_unbuilt("CreateKey", members, "CustomKeyStoreId", "XksKeyId", "MultiRegion")
    for name, value in _ONLY.items():
        if members.get(name, value) != value:
            raise unsupported(f"{name} {members[name]}, only {value}")
    if (policy := members.get("Policy")) is not None:
        check_policy(policy, desk.call.account)
    tags = read_tags(members.get("Tags", []))
    desk.call.require("kms:CreateKey", "*", request_tags(tags))
    if tags:
        desk.call.require("kms:TagResource", "*", request_tags(tags))
    made = desk.ring.create_key(desk.home, description=members.get("Description", ""), tags=tags)
    return {"KeyMetadata": metadata(made)}


def describe_key(desk: Desk, members: Members) -> dict[str, Any]:
    """Tell everything about a key but its material."""
    refuse_unbuilt("DescribeKey", members, "GrantTokens")
    return {"KeyMetadata": metadata(desk.key("DescribeKey", members["KeyId"], by_alias=True))}


def metadata(key: Key) -> dict[str, Any]:
    """Give a key as KMS shows it."""
    return {
        "AWSAccountId": key.home.account,
        "KeyId": key.key_id,
        "Arn": key.arn,
        "CreationDate": key.created_at,
        "Enabled": key.state is KeyState.ENABLED,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": str(key.state),
        "DeletionDate": key.deletion_at,
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER" if key.service is None else "AWS",
        "CustomerMasterKeySpec": SYMMETRIC,
        "KeySpec": SYMMETRIC,
        "EncryptionAlgorithms": [SYMMETRIC],
        "MultiRegion": False,
    }


def list_keys(desk: Desk, members: Members) -> dict[str, Any]:
    """List the keys of an account and region."""
    refuse_unbuilt("ListKeys", members, "ResourceOwners")
    desk.call.require("kms:ListKeys", "*")
    keys = sorted(desk.ring.keys(desk.home), key=lambda key: key.key_id)
    shown, further = page(keys, members, "keys", lambda key: [key.key_id])
    return {"Keys": [{"KeyId": key.key_id, "KeyArn": key.arn} for key in shown], **further}


def update_key_description(desk: Desk, members: Members) -> dict[str, Any]:
    """Describe a key otherwise."""
    desk.ring.set_description(desk.key("UpdateKeyDescription", members["KeyId"]), members["Description"])
    return {}


def enable_key(desk: Desk, members: Members) -> dict[str, Any]:
    """Let a key be used again."""
    desk.ring.enable(desk.key("EnableKey", members["KeyId"]))
    return {}


def disable_key(desk: Desk, members: Members) -> dict[str, Any]:
    """Let a key not be used."""
    desk.ring.disable(desk.key("DisableKey", members["KeyId"]))
    return {}


def schedule_key_deletion(desk: Desk, members: Members) -> dict[str, Any]:
    """Have a key destroyed in 7 to 30 days."""
    days = members.get("PendingWindowInDays", _MOST_DAYS)
    if not _LEAST_DAYS <= days <= _MOST_DAYS:
        raise validation(f"PendingWindowInDays must be between {_LEAST_DAYS} and {_MOST_DAYS}: {days}")
    key = desk.ring.schedule_deletion(desk.key("ScheduleKeyDeletion", members["KeyId"]), days * DAY_SECONDS)
    return {
        "KeyId": key.arn,
        "DeletionDate": key.deletion_at,
        "KeyState": str(key.state),
        "PendingWindowInDays": days,
    }


def cancel_key_deletion(desk: Desk, members: Members) -> dict[str, Any]:
    """Keep a key after all; it is disabled then."""
    return {"KeyId": desk.ring.cancel_deletion(desk.key("CancelKeyDeletion", members["KeyId"])).arn}


def get_key_rotation_status(desk: Desk, members: Members) -> dict[str, Any]:
    """Say that a key's material stays."""
    key = desk.key("GetKeyRotationStatus", members["KeyId"])
    if key.state is KeyState.PENDING_DELETION:
        raise ClientFault("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return {"KeyRotationEnabled": False, "KeyId": key.arn}
