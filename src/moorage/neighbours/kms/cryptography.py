"""Operations that encrypt and decrypt."""

import secrets
from collections.abc import Mapping
from typing import Any

from moorage.aws.errors import ClientFault
from moorage.iam.patterns import Context
from moorage.kms.faults import NoSuchKey
from moorage.kms.records import Key
from moorage.neighbours.kms.desk import Desk, Members, refuse_unbuilt
from moorage.neighbours.kms.faults import validation
from moorage.neighbours.kms.keys import SYMMETRIC

_SPEC_BYTES = {"AES_128": 16, "AES_256": 32}
_MOST_CONTEXT_BYTES = 8_192


def encrypt(desk: Desk, members: Members) -> dict[str, Any]:
    """Encrypt up to 4,096 bytes."""
    refuse_unbuilt("Encrypt", members, "GrantTokens", "DryRun")
    _check_algorithm(members)
    key, context = _key(desk, "Encrypt", members)
    sealed = desk.ring.seal(key.key_id, members["Plaintext"], context)
    return {"CiphertextBlob": sealed, "KeyId": key.arn, "EncryptionAlgorithm": SYMMETRIC}


def decrypt(desk: Desk, members: Members) -> dict[str, Any]:
    """Decrypt; the ciphertext says by which key, and a key that the request names must be that one."""
    refuse_unbuilt("Decrypt", members, "GrantTokens", "DryRun", "DryRunModifiers", "Recipient")
    _check_algorithm(members)
    sealed, context = members.get("CiphertextBlob"), _context(members)
    if sealed is None:
        raise validation("CiphertextBlob must be specified.")
    key = _key_of(desk, sealed)
    if (named := members.get("KeyId")) is not None:
        meant = desk.key("Decrypt", named, condition_keys(context), by_alias=True)
        if meant.key_id != key.key_id:
            message = "The key ID in the request does not identify a CMK that can perform this operation."
            raise ClientFault("IncorrectKeyException", message)
    desk.require("Decrypt", key, condition_keys(context))
    opened = desk.ring.unseal(sealed, context)
    return {"Plaintext": opened.plaintext, "KeyId": key.arn, "EncryptionAlgorithm": SYMMETRIC}


def generate_data_key(desk: Desk, members: Members) -> dict[str, Any]:
    """Make a data key, plain and sealed."""
    return _data_key(desk, "GenerateDataKey", members)


def generate_data_key_without_plaintext(desk: Desk, members: Members) -> dict[str, Any]:
    """Make a data key, sealed only."""
    made = _data_key(desk, "GenerateDataKeyWithoutPlaintext", members)
    return {name: made[name] for name in ("CiphertextBlob", "KeyId")}


def condition_keys(context: Mapping[str, str]) -> Context:
    """Give what conditions of policies may ask about an encryption context."""
    named = {f"kms:encryptioncontext:{name.lower()}": (value,) for name, value in context.items()}
    return {**named, "kms:encryptioncontextkeys": tuple(context)} if context else {}


def _data_key(desk: Desk, operation: str, members: Members) -> dict[str, Any]:
    refuse_unbuilt(operation, members, "GrantTokens", "DryRun", "Recipient")
    if ("KeySpec" in members) is ("NumberOfBytes" in members):
        raise validation("Please specify either number of bytes or key spec.")
    size: int = _SPEC_BYTES[members["KeySpec"]] if "KeySpec" in members else members["NumberOfBytes"]
    key, context = _key(desk, operation, members)
    plaintext = secrets.token_bytes(size)
    return {
        "CiphertextBlob": desk.ring.seal(key.key_id, plaintext, context),
        "Plaintext": plaintext,
        "KeyId": key.arn,
    }


def _key(desk: Desk, operation: str, members: Members) -> tuple[Key, Mapping[str, str]]:
    context = _context(members)
    return desk.key(operation, members["KeyId"], condition_keys(context), by_alias=True), context


def _key_of(desk: Desk, sealed: bytes) -> Key:
    """Find the key that a ciphertext names; one that is not the caller's is as good as none."""
    try:
        key = desk.ring.key_of(sealed)
    except NoSuchKey:
        key = None
    if key is None or key.home != desk.home:
        raise ClientFault(
            "AccessDeniedException",
            "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or "
            "you are not allowed to access.",
        )
    return key


def _context(members: Members) -> Mapping[str, str]:
    context: Mapping[str, str] = members.get("EncryptionContext", {})
    if any(value is None for value in context.values()):
        raise validation("The values of EncryptionContext must not be null.")
    if sum(len(name.encode()) + len(value.encode()) for name, value in context.items()) > _MOST_CONTEXT_BYTES:
        raise validation(f"EncryptionContext must have at most {_MOST_CONTEXT_BYTES} bytes.")
    return context


def _check_algorithm(members: Members) -> None:
    algorithm = members.get("EncryptionAlgorithm", SYMMETRIC)
    if algorithm != SYMMETRIC:
        message = f"You cannot use EncryptionAlgorithm {algorithm} with a key of the KeySpec {SYMMETRIC}."
        raise ClientFault("InvalidKeyUsageException", message)
