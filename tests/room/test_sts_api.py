"""STS as boto3 speaks it, with the S3 of the same process to use its credentials on."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from tests.support.neighbours import ALICE, BOB, CAROL, Neighbours, neighbours_in

READ_ONLY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}}
ROLE = f"arn:aws:iam::{ALICE.account_id}:role/reader"


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("sts")) as running:
        s3 = running.s3()
        s3.create_bucket(Bucket="shared")
        s3.put_object(Bucket="shared", Key="carol/a", Body=b"a")
        s3.put_object(Bucket="shared", Key="alice/a", Body=b"a")
        yield running


def code_of(call: Any, *arguments: Any, **members: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(*arguments, **members)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def with_session(neighbours: Neighbours, credentials: dict[str, Any], service: str, **config: Any) -> Any:
    return boto3.client(
        service,
        endpoint_url=neighbours.url,
        region_name="us-east-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
    )


def test_everybody_may_ask_who_he_is(neighbours: Neighbours) -> None:
    answer = neighbours.sts(CAROL).get_caller_identity()
    assert (answer["Account"], answer["Arn"]) == (CAROL.account_id, f"arn:aws:iam::{CAROL.account_id}:user/carol")
    assert answer["UserId"].startswith("AIDA")
    assert len(answer["UserId"]) == 21
    assert neighbours.sts(BOB).get_caller_identity()["Account"] == BOB.account_id


def test_a_role_is_assumed_and_its_session_used(neighbours: Neighbours) -> None:
    answer = neighbours.sts().assume_role(RoleArn=ROLE, RoleSessionName="build-7", DurationSeconds=900)
    arn = f"arn:aws:sts::{ALICE.account_id}:assumed-role/reader/build-7"
    assert answer["AssumedRoleUser"]["Arn"] == arn
    session = answer["Credentials"]
    who = with_session(neighbours, session, "sts").get_caller_identity()
    assert (who["Arn"], who["UserId"]) == (arn, answer["AssumedRoleUser"]["AssumedRoleId"])
    objects = with_session(neighbours, session, "s3")
    assert objects.get_object(Bucket="shared", Key="alice/a")["Body"].read() == b"a"


def test_a_session_policy_limits_the_session(neighbours: Neighbours) -> None:
    answer = neighbours.sts().assume_role(RoleArn=ROLE, RoleSessionName="s1", Policy=json.dumps(READ_ONLY))
    objects = with_session(neighbours, answer["Credentials"], "s3")
    assert objects.get_object(Bucket="shared", Key="alice/a")["Body"].read() == b"a"
    code, status, message = code_of(objects.put_object, Bucket="shared", Key="x", Body=b"")
    assert (code, status) == ("AccessDenied", 403)
    assert message == (
        f"User: arn:aws:sts::{ALICE.account_id}:assumed-role/reader/s1 is not authorized to perform: s3:PutObject on "
        'resource: "arn:aws:s3:::shared/x" because no session policy allows the s3:PutObject action'
    )


def test_a_session_begun_in_a_session_has_the_limits_of_both(neighbours: Neighbours) -> None:
    first = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["s3:Get*", "sts:*"], "Resource": "*"}}
    outer = neighbours.sts().assume_role(RoleArn=ROLE, RoleSessionName="s1", Policy=json.dumps(first))["Credentials"]
    sts = with_session(neighbours, outer, "sts")
    inner = sts.assume_role(RoleArn=ROLE, RoleSessionName="s2", DurationSeconds=3600)["Credentials"]
    assert inner["Expiration"] <= outer["Expiration"]
    objects = with_session(neighbours, inner, "s3")
    assert objects.get_object(Bucket="shared", Key="alice/a")
    assert code_of(objects.delete_object, Bucket="shared", Key="alice/a")[0] == "AccessDenied"
    assert "1 hour" in code_of(sts.assume_role, RoleArn=ROLE, RoleSessionName="s2", DurationSeconds=7200)[2]
    assert code_of(sts.get_session_token)[:2] == ("AccessDenied", 403)


def test_a_session_of_oneself_has_ones_own_name_and_limits(neighbours: Neighbours) -> None:
    session = neighbours.sts(CAROL).get_session_token(DurationSeconds=900)["Credentials"]
    assert with_session(neighbours, session, "sts").get_caller_identity()["Arn"].endswith(":user/carol")
    objects = with_session(neighbours, session, "s3")
    assert objects.get_object(Bucket="shared", Key="carol/a")
    assert code_of(objects.get_object, Bucket="shared", Key="alice/a")[0] == "AccessDenied"


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_url_presigned_with_a_session_is_good(neighbours: Neighbours, version: str) -> None:
    session = neighbours.sts().get_session_token()["Credentials"]
    objects = with_session(neighbours, session, "s3", signature_version=version)
    url = objects.generate_presigned_url("get_object", Params={"Bucket": "shared", "Key": "alice/a"})
    assert urllib.request.urlopen(url).read() == b"a"
    token = urllib.parse.quote(session["SessionToken"], safe="")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url.replace(token, "other"))
    assert caught.value.code == 400
    assert b"<Code>InvalidToken</Code>" in caught.value.read()


def test_a_session_token_that_is_not_ours_is_invalid(neighbours: Neighbours) -> None:
    session = neighbours.sts().get_session_token()["Credentials"]
    changed = {**session, "SessionToken": session["SessionToken"][:-8] + "AAAAAAA="}
    code = code_of(with_session(neighbours, changed, "sts").get_caller_identity)
    assert code == ("InvalidClientTokenId", 403, "The security token included in the request is invalid")
    assert code_of(with_session(neighbours, changed, "s3").list_buckets)[:2] == ("InvalidToken", 400)
    without = neighbours.sts(ALICE.__class__(session["AccessKeyId"], session["SecretAccessKey"], "", ""))
    assert code_of(without.get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_wrong_secret_does_not_sign(neighbours: Neighbours) -> None:
    session = {**neighbours.sts().get_session_token()["Credentials"], "SecretAccessKey": "wrong"}
    assert code_of(with_session(neighbours, session, "sts").get_caller_identity)[:2] == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        ({"RoleArn": ROLE.replace(ALICE.account_id, BOB.account_id)}, "AccessDenied", "not authorized to perform"),
        ({"RoleArn": "arn:aws:iam::1:user/x-long-enough"}, "ValidationError", "is invalid"),
        ({"RoleArn": "short"}, "ValidationError", "Value 'short' at 'roleArn' failed to satisfy constraint"),
        ({"RoleSessionName": "a b"}, "ValidationError", "regular expression pattern"),
        ({"DurationSeconds": 60}, "ValidationError", "Member must have value greater than or equal to 900"),
        ({"Policy": "{}"}, "MalformedPolicyDocument", "Statement"),
        (
            {"Policy": '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "If": 1}}'},
            "MalformedPolicyDocument",
            "If",
        ),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, "ValidationError", "Moorage does not have Tags of AssumeRole"),
        ({"SerialNumber": "arn:aws:iam::x:mfa", "TokenCode": "123456"}, "ValidationError", "SerialNumber"),
    ],
)
def test_bad_requests_get_clear_errors(neighbours: Neighbours, members: dict[str, Any], code: str, text: str) -> None:
    given = {"RoleArn": ROLE, "RoleSessionName": "s1", **members}
    found, _, message = code_of(neighbours.sts(parameter_validation=False).assume_role, **given)
    assert found == code
    assert text in message


def test_a_role_needs_the_permission_to_assume_it(neighbours: Neighbours) -> None:
    sts = neighbours.sts(CAROL)
    assert sts.assume_role(RoleArn=ROLE, RoleSessionName="s1")["Credentials"]
    other = ROLE.replace("reader", "writer")
    code, status, message = code_of(sts.assume_role, RoleArn=other, RoleSessionName="s1")
    assert (code, status) == ("AccessDenied", 403)
    assert message.endswith(f"on resource: {other} because no identity-based policy allows the sts:AssumeRole action")


def test_what_moorage_does_not_have_is_refused_by_name(neighbours: Neighbours) -> None:
    code, status, message = code_of(neighbours.sts().get_access_key_info, AccessKeyId="A" * 16)
    assert (code, status) == ("InvalidAction", 400)
    assert "GetAccessKeyInfo" in message
    # It needs no signature, and boto3 sends none.
    unsigned = neighbours.sts().assume_role_with_web_identity
    code, _, message = code_of(unsigned, RoleArn=ROLE, RoleSessionName="s1", WebIdentityToken="token")
    assert (code, "AssumeRoleWithWebIdentity" in message) == ("InvalidAction", True)


def post(url: str, body: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url + "/", data=body, headers=headers))
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read()
    return answer.status, answer.read()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"Action=GetCallerIdentity&Version=2011-06-15", 403, b"MissingAuthenticationToken"),
        (b"Action=Nonsense&Version=2011-06-15", 400, b"InvalidAction"),
        (b"Version=2011-06-15", 400, b"MissingAction"),
        (b"Action=A&Action=B", 400, b"MalformedQueryString"),
        (b"Action=%ff", 400, b"MalformedQueryString"),
        (b"&".join(b"a%d=1" % number for number in range(2000)), 400, b"MalformedQueryString"),
        (b"a" * 70_000, 413, b"RequestEntityTooLarge"),
    ],
)
def test_bad_forms_get_clear_errors(neighbours: Neighbours, body: bytes, status: int, code: bytes) -> None:
    found, content = post(neighbours.url, body)
    assert found == status
    assert b"<Code>" + code + b"</Code>" in content


def test_a_presigned_question_says_who_signed_it(neighbours: Neighbours) -> None:
    url = f"{neighbours.url}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("GET", url, headers={"Host": url.split("/")[2]})
    SigV4QueryAuth(Credentials(ALICE.access_key_id, ALICE.secret_access_key), "sts", "us-east-1", 60).add_auth(request)
    answer = urllib.request.urlopen(str(request.url)).read()
    assert b":user/alice</Arn>" in answer


# S3, for a key with policies


def test_a_limited_key_has_its_folder_of_a_bucket(neighbours: Neighbours) -> None:
    objects = neighbours.s3(CAROL)
    objects.put_object(Bucket="shared", Key="carol/b", Body=b"b")
    objects.copy_object(Bucket="shared", Key="carol/c", CopySource="shared/carol/b")
    listed = objects.list_objects_v2(Bucket="shared", Prefix="carol/")
    assert {entry["Key"] for entry in listed["Contents"]} >= {"carol/b", "carol/c"}
    for call, members in (
        (objects.get_object, {"Key": "alice/a"}),
        (objects.put_object, {"Key": "x"}),
        (objects.copy_object, {"Key": "carol/d", "CopySource": "shared/alice/a"}),
        (objects.list_objects_v2, {}),
        (objects.list_objects_v2, {"Prefix": "alice/"}),
        (objects.delete_bucket, {}),
        (objects.create_multipart_upload, {"Key": "alice/b"}),
    ):
        assert code_of(call, Bucket="shared", **members)[:2] == ("AccessDenied", 403)
    assert code_of(objects.list_buckets)[0] == "AccessDenied"


def test_deleting_many_deletes_those_that_are_allowed(neighbours: Neighbours) -> None:
    neighbours.s3().put_object(Bucket="shared", Key="carol/z", Body=b"")
    keys = [{"Key": "carol/z"}, {"Key": "alice/a"}]
    answer = neighbours.s3(CAROL).delete_objects(Bucket="shared", Delete={"Objects": keys})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["carol/z"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("alice/a", "AccessDenied")]
    assert neighbours.s3().head_object(Bucket="shared", Key="alice/a")
