"""KMS through an unmodified boto3 and AWS CLI, over a socket, against the neighbours process."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.neighbours import ALICE, BOB, DORA, Neighbours, neighbours_in

from moorage.aws.credentials import Credential


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("kms")) as running:
        yield running


@pytest.fixture(scope="module")
def kms(neighbours: Neighbours) -> Any:
    return neighbours.kms()


@pytest.fixture
def key(kms: Any) -> Any:
    """Make a key; gives what KMS says of it."""
    return kms.create_key(Description="of a test", Tags=[{"TagKey": "team", "TagValue": "one"}])["KeyMetadata"]


def error_of(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_a_key_is_described_as_on_aws(kms: Any, key: Any) -> None:
    assert key["Arn"] == f"arn:aws:kms:us-east-1:{ALICE.account_id}:key/{key['KeyId']}"
    described = kms.describe_key(KeyId=key["Arn"])["KeyMetadata"]
    assert described == key
    without = {name: value for name, value in key.items() if name not in {"KeyId", "Arn", "CreationDate"}}
    assert without == {
        "AWSAccountId": ALICE.account_id,
        "Enabled": True,
        "Description": "of a test",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
    }


def test_what_is_encrypted_is_decrypted_without_naming_the_key(kms: Any, key: Any) -> None:
    context = {"endpoint": "wine", "stage": "é"}
    made = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"a secret", EncryptionContext=context)
    assert (made["KeyId"], made["EncryptionAlgorithm"]) == (key["Arn"], "SYMMETRIC_DEFAULT")
    assert b"a secret" not in made["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"a secret", key["Arn"])
    assert kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x" * 4096)["KeyId"] == key["Arn"]
    code, message = error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x" * 4097)
    assert code == "ValidationException"
    assert "'plaintext' failed to satisfy constraint" in message


def test_a_wrong_context_a_changed_byte_and_another_key_decrypt_nothing(kms: Any, key: Any) -> None:
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret", EncryptionContext={"a": "b"})["CiphertextBlob"]
    for wrong in ({"a": "c"}, {}, {"a": "b", "c": "d"}):
        assert error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=wrong)[0] == "InvalidCiphertextException"
    right = {"EncryptionContext": {"a": "b"}}
    changed = blob[:-1] + bytes([blob[-1] ^ 1])
    assert error_of(kms.decrypt, CiphertextBlob=changed, **right)[0] == "InvalidCiphertextException"
    assert error_of(kms.decrypt, CiphertextBlob=b"nothing of ours")[0] == "InvalidCiphertextException"
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    assert error_of(kms.decrypt, CiphertextBlob=blob, KeyId=other, **right) == (
        "IncorrectKeyException",
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
    assert kms.decrypt(CiphertextBlob=blob, KeyId=key["Arn"], **right)["Plaintext"] == b"secret"


def test_data_keys(kms: Any, key: Any) -> None:
    made = kms.generate_data_key(KeyId=key["Arn"], KeySpec="AES_256", EncryptionContext={"a": "b"})
    assert len(made["Plaintext"]) == 32
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
    assert opened["Plaintext"] == made["Plaintext"]
    assert len(kms.generate_data_key(KeyId=key["Arn"], KeySpec="AES_128")["Plaintext"]) == 16
    assert len(kms.generate_data_key(KeyId=key["Arn"], NumberOfBytes=64)["Plaintext"]) == 64
    sealed = kms.generate_data_key_without_plaintext(KeyId=key["Arn"], KeySpec="AES_256")
    assert "Plaintext" not in sealed
    assert len(kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"]) == 32
    for members in ({}, {"KeySpec": "AES_256", "NumberOfBytes": 32}):
        assert error_of(kms.generate_data_key, KeyId=key["Arn"], **members) == (
            "ValidationException",
            "Please specify either number of bytes or key spec.",
        )


def test_a_disabled_key_refuses_until_it_is_enabled(kms: Any, key: Any) -> None:
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    kms.disable_key(KeyId=key["KeyId"])
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"
    refusal = ("DisabledException", f"{key['Arn']} is disabled.")
    assert error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x") == refusal
    assert error_of(kms.decrypt, CiphertextBlob=blob) == refusal
    assert error_of(kms.generate_data_key, KeyId=key["KeyId"], KeySpec="AES_256") == refusal
    kms.enable_key(KeyId=key["KeyId"])
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"


def test_a_deletion_is_scheduled_and_cancelled(kms: Any, key: Any) -> None:
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    for days in (6, 31):
        code, _ = error_of(kms.schedule_key_deletion, KeyId=key["KeyId"], PendingWindowInDays=days)
        assert code == "ValidationException"
    answer = kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"]) == (key["Arn"], "PendingDeletion")
    days = (answer["DeletionDate"] - key["CreationDate"]).total_seconds() / 86_400
    assert 7 <= days < 7.1
    refusal = ("KMSInvalidStateException", f"{key['Arn']} is pending deletion.")
    assert error_of(kms.decrypt, CiphertextBlob=blob) == refusal
    assert error_of(kms.enable_key, KeyId=key["KeyId"]) == refusal
    assert error_of(kms.create_alias, AliasName="alias/late", TargetKeyId=key["KeyId"]) == refusal
    assert kms.cancel_key_deletion(KeyId=key["KeyId"])["KeyId"] == key["Arn"]
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"
    code, message = error_of(kms.cancel_key_deletion, KeyId=key["KeyId"])
    assert (code, message) == ("KMSInvalidStateException", f"{key['Arn']} is not pending deletion.")


def test_aliases(kms: Any, key: Any) -> None:
    name, other = "alias/t/models_1", kms.create_key()["KeyMetadata"]
    arn = f"arn:aws:kms:us-east-1:{ALICE.account_id}:{name}"
    kms.create_alias(AliasName=name, TargetKeyId=key["KeyId"])
    assert error_of(kms.create_alias, AliasName=name, TargetKeyId=other["KeyId"]) == (
        "AlreadyExistsException",
        f"An alias with the name {arn} already exists",
    )
    (listed,) = kms.list_aliases(KeyId=key["KeyId"])["Aliases"]
    assert (listed["AliasName"], listed["AliasArn"], listed["TargetKeyId"]) == (name, arn, key["KeyId"])
    blob = kms.encrypt(KeyId=name, Plaintext=b"secret")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob, KeyId=arn)["KeyId"] == key["Arn"]
    kms.update_alias(AliasName=name, TargetKeyId=other["Arn"])
    assert kms.describe_key(KeyId=name)["KeyMetadata"]["KeyId"] == other["KeyId"]
    kms.delete_alias(AliasName=name)
    assert error_of(kms.delete_alias, AliasName=name) == ("NotFoundException", f"Alias {arn} is not found.")
    assert error_of(kms.describe_key, KeyId=name) == ("NotFoundException", f"Alias {arn} is not found.")


def test_unusable_names(kms: Any, key: Any) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    arn = f"arn:aws:kms:us-east-1:{ALICE.account_id}:key/{missing}"
    assert error_of(kms.describe_key, KeyId=missing) == ("NotFoundException", f"Key '{arn}' does not exist")
    assert error_of(kms.describe_key, KeyId=arn) == ("NotFoundException", f"Key '{arn}' does not exist")
    assert error_of(kms.describe_key, KeyId="../x") == ("NotFoundException", "Invalid keyId ../x")
    assert error_of(kms.disable_key, KeyId="alias/x") == ("NotFoundException", "Invalid keyId alias/x")
    assert error_of(kms.describe_key, KeyId=arn.replace("us-east-1", "eu-west-1"))[0] == "NotFoundException"
    assert error_of(kms.create_alias, AliasName="models", TargetKeyId=key["KeyId"])[0] == "ValidationException"
    assert error_of(kms.create_alias, AliasName="alias/a:b", TargetKeyId=key["KeyId"])[0] == "ValidationException"
    reserved = error_of(kms.create_alias, AliasName="alias/aws/mine", TargetKeyId=key["KeyId"])
    assert reserved[0] == "NotAuthorizedException"


def test_the_keys_of_services_are_made_on_first_use(kms: Any) -> None:
    made = kms.describe_key(KeyId="alias/aws/sagemaker")["KeyMetadata"]
    assert made["KeyManager"] == "AWS"
    assert kms.describe_key(KeyId="alias/aws/sagemaker")["KeyMetadata"]["KeyId"] == made["KeyId"]
    assert error_of(kms.disable_key, KeyId=made["KeyId"])[0] == "UnsupportedOperationException"
    assert "alias/aws/sagemaker" in [alias["AliasName"] for alias in kms.list_aliases()["Aliases"]]


def test_lists_go_on_where_a_page_ended(kms: Any, neighbours: Neighbours) -> None:
    abroad = neighbours.kms(region="eu-central-1")
    made = {abroad.create_key()["KeyMetadata"]["KeyId"] for _ in range(5)}
    for number, key_id in enumerate(sorted(made)):
        abroad.create_alias(AliasName=f"alias/{number}", TargetKeyId=key_id)
    pages = list(abroad.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["Keys"]) for page in pages] == [2, 2, 1]
    assert {key["KeyId"] for page in pages for key in page["Keys"]} == made
    pages = list(abroad.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 2}))
    names = [alias["AliasName"] for page in pages for alias in page["Aliases"]]
    assert names == [f"alias/{number}" for number in range(5)]
    assert error_of(abroad.list_keys, Marker="nonsense")[0] == "InvalidMarkerException"
    assert made.isdisjoint(key["KeyId"] for key in kms.list_keys()["Keys"])


def test_what_terraform_asks_for(kms: Any, key: Any) -> None:
    name = {"KeyId": key["KeyId"]}
    policy = kms.get_key_policy(PolicyName="default", **name)["Policy"]
    assert json.loads(policy)["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{ALICE.account_id}:root"}
    kms.put_key_policy(PolicyName="default", Policy=policy, **name)
    open_to_all = policy.replace(f"arn:aws:iam::{ALICE.account_id}:root", "*")
    code, message = error_of(kms.put_key_policy, Policy=open_to_all, **name)
    assert (code, "policies of keys" in message) == ("UnsupportedOperationException", True)
    assert error_of(kms.create_key, Policy="{")[0] == "MalformedPolicyDocumentException"
    assert kms.list_key_policies(**name)["PolicyNames"] == ["default"]
    assert kms.get_key_rotation_status(**name)["KeyRotationEnabled"] is False
    kms.tag_resource(Tags=[{"TagKey": "team", "TagValue": "two"}, {"TagKey": "a", "TagValue": "b"}], **name)
    tags = [{"TagKey": "a", "TagValue": "b"}, {"TagKey": "team", "TagValue": "two"}]
    assert kms.list_resource_tags(**name)["Tags"] == tags
    kms.untag_resource(TagKeys=["team"], **name)
    assert kms.list_resource_tags(**name)["Tags"] == tags[:1]
    kms.update_key_description(Description="another", **name)
    assert kms.describe_key(**name)["KeyMetadata"]["Description"] == "another"
    duplicate = [{"TagKey": "a", "TagValue": "b"}, {"TagKey": "a", "TagValue": "c"}]
    assert error_of(kms.tag_resource, Tags=duplicate, **name)[0] == "TagException"


@pytest.mark.parametrize(
    "members",
    [
        {"KeyUsage": "SIGN_VERIFY", "KeySpec": "RSA_2048"},
        {"KeyUsage": "GENERATE_VERIFY_MAC", "KeySpec": "HMAC_256"},
        {"KeySpec": "RSA_2048"},
        {"Origin": "EXTERNAL"},
        {"MultiRegion": True},
        {"CustomKeyStoreId": "cks-1"},
    ],
)
def test_other_kinds_of_keys_are_refused_by_name(kms: Any, members: dict[str, Any]) -> None:
    code, message = error_of(kms.create_key, **members)
    assert code == "UnsupportedOperationException"
    assert next(iter(members)) in message


def test_operations_and_members_that_are_not_there_are_refused_by_name(kms: Any, key: Any) -> None:
    code, message = error_of(kms.create_grant, KeyId=key["KeyId"], GranteePrincipal="a", Operations=["Decrypt"])
    assert code == "UnknownOperationException"
    assert message == "Moorage does not have the operation CreateGrant of AWS Key Management Service."
    code, message = error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x", GrantTokens=["t"])
    assert (code, "GrantTokens" in message) == ("UnsupportedOperationException", True)
    code, _ = error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
    assert code == "InvalidKeyUsageException"


def test_another_account_gets_nothing(neighbours: Neighbours, kms: Any, key: Any) -> None:
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    bob = neighbours.kms(BOB)
    for call, members in (
        (bob.describe_key, {"KeyId": key["KeyId"]}),
        (bob.describe_key, {"KeyId": key["Arn"]}),
        (bob.encrypt, {"KeyId": key["Arn"], "Plaintext": b"x"}),
        (bob.disable_key, {"KeyId": key["Arn"]}),
        (bob.decrypt, {"CiphertextBlob": blob}),
    ):
        assert error_of(call, **members)[0] == "AccessDeniedException"
    assert bob.list_keys()["Keys"] == []
    assert error_of(neighbours.kms(region="eu-west-1").decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"


def test_policies_of_users_are_asked(neighbours: Neighbours, kms: Any, key: Any) -> None:
    """Dora may encrypt and decrypt with the context ``team=red`` only, with any key that is tagged ``team=one``."""
    dora = neighbours.kms(DORA)
    red = {"EncryptionContext": {"team": "red"}}
    blob = dora.encrypt(KeyId=key["KeyId"], Plaintext=b"secret", **red)["CiphertextBlob"]
    assert dora.decrypt(CiphertextBlob=blob, **red)["Plaintext"] == b"secret"
    code, message = error_of(dora.encrypt, KeyId=key["KeyId"], Plaintext=b"x", EncryptionContext={"team": "blue"})
    assert (code, message) == ("AccessDeniedException", _denied(DORA, "Encrypt", key["Arn"]))
    assert error_of(dora.encrypt, KeyId=key["KeyId"], Plaintext=b"x")[0] == "AccessDeniedException"
    untagged = kms.create_key()["KeyMetadata"]
    assert error_of(dora.encrypt, KeyId=untagged["KeyId"], Plaintext=b"x", **red)[0] == "AccessDeniedException"
    of_others = kms.encrypt(KeyId=untagged["KeyId"], Plaintext=b"x", **red)["CiphertextBlob"]
    assert error_of(dora.decrypt, CiphertextBlob=of_others, **red)[0] == "AccessDeniedException"
    for call, members in (
        (dora.create_key, {}),
        (dora.list_keys, {}),
        (dora.schedule_key_deletion, {"KeyId": key["KeyId"]}),
        (dora.create_alias, {"AliasName": "alias/x", "TargetKeyId": key["KeyId"]}),
    ):
        assert error_of(call, **members)[0] == "AccessDeniedException"


def _denied(who: Credential, action: str, arn: str) -> str:
    return (
        f"User: {who.user_arn} is not authorized to perform: kms:{action} on resource: {arn} "
        f"because no identity-based policy allows the kms:{action} action"
    )


def test_keys_survive_kill_9(tmp_path: Path) -> None:
    with neighbours_in(tmp_path) as running:
        kms = running.kms()
        arn = kms.create_key()["KeyMetadata"]["Arn"]
        kms.create_alias(AliasName="alias/kept", TargetKeyId=arn.rpartition("/")[2])
        blob = kms.encrypt(KeyId="alias/kept", Plaintext=b"secret")["CiphertextBlob"]
        running.kill()
        running.start()
        assert running.kms().decrypt(CiphertextBlob=blob) | {"ResponseMetadata": 0} == {
            "Plaintext": b"secret",
            "KeyId": arn,
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "ResponseMetadata": 0,
        }


@pytest.mark.slow  # starts the AWS CLI, which takes a second each time
def test_the_aws_cli_encrypts_and_decrypts(neighbours: Neighbours, tmp_path: Path) -> None:
    def aws(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, str(Path(sys.executable).with_name("aws")), "kms", *arguments, "--output", "json"],
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": neighbours.url,
                "AWS_ACCESS_KEY_ID": ALICE.access_key_id,
                "AWS_SECRET_ACCESS_KEY": ALICE.secret_access_key,
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    key_id = aws("create-key", "--description", "of the CLI")["KeyMetadata"]["KeyId"]
    aws("create-alias", "--alias-name", "alias/cli", "--target-key-id", key_id)
    (tmp_path / "plain").write_bytes(b"a secret")
    made = aws("encrypt", "--key-id", "alias/cli", "--plaintext", f"fileb://{tmp_path / 'plain'}")
    (tmp_path / "sealed").write_bytes(base64.b64decode(made["CiphertextBlob"]))
    opened = aws("decrypt", "--ciphertext-blob", f"fileb://{tmp_path / 'sealed'}")
    assert base64.b64decode(opened["Plaintext"]) == b"a secret"
