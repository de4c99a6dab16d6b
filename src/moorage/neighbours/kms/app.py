"""The KMS API: the list of operations, and how one is done."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.kms.faults import KeyUnusable
from moorage.kms.ring import KeyRing
from moorage.neighbours.json_app import Call, JsonApp, Perform
from moorage.neighbours.keys import KeySource
from moorage.neighbours.kms import aliases, cryptography, keys, policies, tags
from moorage.neighbours.kms.desk import Desk, Members
from moorage.neighbours.kms.faults import as_service_error

OPERATIONS: Mapping[str, Callable[[Desk, Members], dict[str, Any]]] = {
    "CreateKey": keys.create_key,
    "DescribeKey": keys.describe_key,
    "ListKeys": keys.list_keys,
    "UpdateKeyDescription": keys.update_key_description,
    "EnableKey": keys.enable_key,
    "DisableKey": keys.disable_key,
    "ScheduleKeyDeletion": keys.schedule_key_deletion,
    "CancelKeyDeletion": keys.cancel_key_deletion,
    "GetKeyRotationStatus": keys.get_key_rotation_status,
    "Encrypt": cryptography.encrypt,
    "Decrypt": cryptography.decrypt,
    "GenerateDataKey": cryptography.generate_data_key,
    "GenerateDataKeyWithoutPlaintext": cryptography.generate_data_key_without_plaintext,
    "CreateAlias": aliases.create_alias,
    "UpdateAlias": aliases.update_alias,
    "DeleteAlias": aliases.delete_alias,
    "ListAliases": aliases.list_aliases,
    "GetKeyPolicy": policies.get_key_policy,
    "PutKeyPolicy": policies.put_key_policy,
    "ListKeyPolicies": policies.list_key_policies,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "ListResourceTags": tags.list_resource_tags,
}

_LONGEST_BODY_BYTES = 262_144
"""The longest policy in JSON fits."""


def kms_app(ring: KeyRing, keys: KeySource, clock: Clock, ids: Ids) -> JsonApp:
    """Make the ASGI application that answers as KMS does."""
    operations = {name: _performed_in_thread(operation, ring) for name, operation in OPERATIONS.items()}
    return JsonApp(
        "kms",
        operations,
        keys,
        clock,
        ids,
        violation_code="ValidationException",
        longest_body_bytes=_LONGEST_BODY_BYTES,
    )


def _performed_in_thread(operation: Callable[[Desk, Members], dict[str, Any]], ring: KeyRing) -> Perform:
    """Have the files of the ring read beside the event loop."""

    def act(call: Call, members: Members) -> dict[str, Any]:
        try:
            return operation(Desk(ring, call), members)
        except KeyUnusable as fault:
            raise as_service_error(fault) from fault

    async def perform(call: Call, members: Members) -> dict[str, Any]:
        return await asyncio.to_thread(act, call, members)

    return perform
