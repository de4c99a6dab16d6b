"""Keys with policies, accounts, regions and temporary credentials, by unmodified clients on the whole product."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.product import IMAGE, ROLE, Moorage, wait_until

ACCOUNT = "000000000000"
OTHER = "222222222222"

ECHO = """
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(value, model):
    return value

def output_fn(value, accept):
    return "echo"
"""


def made_key(moorage: Moorage, folder: Path, user: str, *policies: dict[str, Any], account: str = ACCOUNT) -> Any:
    """Make a key with the command line, as an administrator does."""
    options = []
    for number, policy in enumerate(policies):
        file = folder / f"{user}-{number}.json"
        file.write_text(json.dumps(policy))
        options += ["--policy", str(file)]
    made = moorage.run("keys", "create", "--user", user, "--account", account, *options, "--output", "json")
    return json.loads(made.stdout)


def client(moorage: Moorage, service: str, key: dict[str, str], region: str = "us-east-1") -> Any:
    return boto3.session.Session().client(
        service,
        endpoint_url=moorage.server()["url"],
        region_name=region,
        aws_access_key_id=key.get("access_key_id") or key["AccessKeyId"],
        aws_secret_access_key=key.get("secret_access_key") or key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
        config=Config(retries={"total_max_attempts": 1}),
    )


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: str | list[str], resource: str = "*", condition: Any = None) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition or {}}


def deny(action: str, resource: str) -> dict[str, Any]:
    return {**allow(action, resource), "Effect": "Deny"}


def refusal(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind}/{name}"


@pytest.fixture(scope="module")
def echo(deployment: Deployment) -> str:
    """Have an endpoint that anybody may try to invoke."""
    deployment.model("Identity-Echo", models.code_only(ECHO))
    return deployment.in_service("Identity-Echo", ("only", "Identity-Echo", 1.0, 1))


def test_a_key_may_do_what_its_policy_says_and_no_more(
    moorage: Moorage, tmp_path: Path, deployment: Deployment
) -> None:
    policy = document(
        allow(["sagemaker:CreateModel", "sagemaker:DescribeModel"], arn("model", "Mine-*")),
        allow("iam:PassRole", "arn:aws:iam::*:role/moorage"),
    )
    sagemaker = client(moorage, "sagemaker", made_key(moorage, tmp_path, "limited", policy))
    given = {"ModelName": "Mine-1", "ExecutionRoleArn": ROLE}
    image = {"Image": IMAGE}
    sagemaker.create_model(**given, PrimaryContainer=image)
    assert sagemaker.describe_model(ModelName="Mine-1")["ModelName"] == "Mine-1"
    user = f"arn:aws:iam::{ACCOUNT}:user/limited"
    code, message = refusal(sagemaker.list_models)
    assert code == "AccessDeniedException"
    assert message == (
        f"User: {user} is not authorized to perform: sagemaker:ListModels on resource: * because no identity-based "
        "policy allows the sagemaker:ListModels action"
    )
    code, message = refusal(sagemaker.describe_model, ModelName="Yours-1")
    assert (code, arn("model", "yours-1") in message) == ("AccessDeniedException", True)
    tagged = {**given, "ModelName": "Mine-2", "Tags": [{"Key": "a", "Value": "b"}]}
    assert "perform: sagemaker:AddTags on" in refusal(sagemaker.create_model, **tagged, PrimaryContainer=image)[1]
    other_role = {**given, "ModelName": "Mine-3", "ExecutionRoleArn": ROLE.replace("moorage", "admin")}
    assert "perform: iam:PassRole on" in refusal(sagemaker.create_model, **other_role, PrimaryContainer=image)[1]
    # Constraints come before permissions.
    assert refusal(sagemaker.describe_model, ModelName="a_b")[0] == "ValidationException"
    deployment.sagemaker.delete_model(ModelName="Mine-1")


def test_conditions_limit_instance_types_tags_and_where_requests_come_from(moorage: Moorage, tmp_path: Path) -> None:
    cheap = {"ForAllValues:StringLike": {"sagemaker:InstanceTypes": ["ml.t2.*"]}}
    tagged = {"StringEquals": {"aws:RequestTag/team": "a"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}
    policy = document(
        allow("sagemaker:CreateEndpointConfig", condition=cheap),
        allow("sagemaker:AddTags", condition=tagged),
        allow("sagemaker:ListEndpoints", condition={"IpAddress": {"aws:SourceIp": ["127.0.0.0/8", "::1"]}}),
        allow("sagemaker:ListModels", condition={"NotIpAddress": {"aws:SourceIp": ["127.0.0.0/8", "::1"]}}),
    )
    sagemaker = client(moorage, "sagemaker", made_key(moorage, tmp_path, "frugal", policy))

    def create(instance_type: str, **tags: str) -> tuple[str, str]:
        variant = {"VariantName": "v", "ModelName": "none", "InitialInstanceCount": 1, "InstanceType": instance_type}
        named = [{"Key": key, "Value": value} for key, value in tags.items()]
        return refusal(
            sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[variant], Tags=named
        )

    assert create("ml.m5.large")[0] == "AccessDeniedException"
    assert create("ml.t2.medium")[1].startswith("Could not find model")
    assert create("ml.t2.medium", team="a")[1].startswith("Could not find model")
    assert "sagemaker:AddTags" in create("ml.t2.medium", team="b")[1]
    assert "sagemaker:AddTags" in create("ml.t2.medium", team="a", more="x")[1]
    assert sagemaker.list_endpoints()
    assert refusal(sagemaker.list_models)[0] == "AccessDeniedException"


def test_a_client_cannot_say_where_it_comes_from(moorage: Moorage, tmp_path: Path) -> None:
    policy = document(allow("sagemaker:ListEndpoints", condition={"IpAddress": {"aws:SourceIp": "10.9.8.7"}}))
    sagemaker = client(moorage, "sagemaker", made_key(moorage, tmp_path, "liar", policy))

    def lie(request: Any, **_: Any) -> None:
        request.headers["X-Moorage-Source-Ip"] = "10.9.8.7"

    sagemaker.meta.events.register("request-created.sagemaker", lie)
    assert refusal(sagemaker.list_endpoints)[0] == "AccessDeniedException"


@pytest.mark.usefixtures("echo")
def test_invoking_needs_permission_too(moorage: Moorage, tmp_path: Path, deployment: Deployment) -> None:
    key = made_key(moorage, tmp_path, "guest", document(allow("sagemaker:InvokeEndpoint", arn("endpoint", "other-*"))))
    runtime = client(moorage, "sagemaker-runtime", key)
    call = {"EndpointName": "Identity-Echo", "Body": b"x"}
    code, message = refusal(runtime.invoke_endpoint, **call)
    assert code == "AccessDeniedException"
    action, resource = "sagemaker:InvokeEndpoint", arn("endpoint", "identity-echo")
    assert message == (
        f"User: arn:aws:iam::{ACCOUNT}:user/guest is not authorized to perform: {action} on resource: {resource} "
        f"because no identity-based policy allows the {action} action"
    )
    wanted = tmp_path / "wanted.json"
    wanted.write_text(
        json.dumps(
            document(allow("sagemaker:InvokeEndpoint", condition={"StringEquals": {"aws:ResourceTag/open": "yes"}}))
        )
    )
    shown = moorage.run("keys", "policy", key["access_key_id"], "--set", str(wanted)).stdout
    assert "aws:ResourceTag/open" in shown
    assert refusal(runtime.invoke_endpoint, **call)[0] == "AccessDeniedException"
    deployment.sagemaker.add_tags(ResourceArn=arn("endpoint", "Identity-Echo"), Tags=[{"Key": "Open", "Value": "yes"}])

    def answered() -> bool:
        try:
            return bool(runtime.invoke_endpoint(**call)["Body"].read() == b"echo")
        except runtime.exceptions.ClientError:
            return False

    wait_until(answered, within=10, what="the gateway knows the tag")
    moorage.run("keys", "delete", key["access_key_id"])
    wait_until(
        lambda: refusal(runtime.invoke_endpoint, **call)[0] == "UnrecognizedClientException",
        within=10,
        what="the gateway has forgotten the key",
    )


def test_accounts_and_regions_do_not_see_each_other(
    moorage: Moorage, tmp_path: Path, deployment: Deployment, echo: str
) -> None:
    other = made_key(moorage, tmp_path, "ann", account=OTHER)
    sagemaker = client(moorage, "sagemaker", other)
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert refusal(sagemaker.describe_endpoint, EndpointName=echo)[1] == (
        f'Could not find endpoint "arn:aws:sagemaker:us-east-1:{OTHER}:endpoint/{echo}".'
    )
    assert refusal(sagemaker.list_tags, ResourceArn=arn("endpoint", echo))[0] == "ValidationException"
    runtime = client(moorage, "sagemaker-runtime", other)
    code, message = refusal(runtime.invoke_endpoint, EndpointName=echo, Body=b"x")
    assert (code, message) == ("ValidationError", f"Endpoint {echo} of account {OTHER} not found.")
    stolen = {"Image": IMAGE, "ModelDataUrl": "s3://models-identity-echo/model.tar.gz"}
    theft = {"ModelName": "stolen", "ExecutionRoleArn": ROLE, "PrimaryContainer": stolen}
    assert refusal(sagemaker.create_model, **theft)[1].startswith("Could not access model data at s3://models-identity")
    assert refusal(client(moorage, "s3", other).list_objects_v2, Bucket="models-identity-echo")[0] == "AccessDenied"
    # The same account elsewhere.
    exports = moorage.exports()
    mine = {"access_key_id": exports["AWS_ACCESS_KEY_ID"], "secret_access_key": exports["AWS_SECRET_ACCESS_KEY"]}
    abroad = client(moorage, "sagemaker", mine, region="eu-west-1")
    assert abroad.list_endpoints()["Endpoints"] == []
    code, _ = refusal(
        client(moorage, "sagemaker-runtime", mine, "eu-west-1").invoke_endpoint, EndpointName=echo, Body=b""
    )
    assert code == "ValidationError"
    assert deployment.sagemaker.describe_endpoint(EndpointName=echo)["EndpointStatus"] == "InService"


def test_temporary_credentials_work_on_every_plane(moorage: Moorage, deployment: Deployment, echo: str) -> None:
    sts = moorage.client("sts")
    assert sts.get_caller_identity()["Account"] == ACCOUNT
    role = f"arn:aws:iam::{ACCOUNT}:role/deployer"
    policy = document(
        allow(["sagemaker:InvokeEndpoint", "sagemaker:DescribeEndpoint", "s3:GetObject", "sts:*"]),
        deny("sagemaker:DescribeEndpoint", arn("endpoint", "secret*")),
    )
    answer = sts.assume_role(RoleArn=role, RoleSessionName="ci", DurationSeconds=900, Policy=json.dumps(policy))
    session = answer["Credentials"]
    sagemaker = client(moorage, "sagemaker", session)
    assert sagemaker.describe_endpoint(EndpointName=echo)["EndpointStatus"] == "InService"
    who = f"User: arn:aws:sts::{ACCOUNT}:assumed-role/deployer/ci"
    code, message = refusal(sagemaker.delete_endpoint, EndpointName=echo)
    assert code == "AccessDeniedException"
    assert message == (
        f"{who} is not authorized to perform: sagemaker:DeleteEndpoint on resource: {arn('endpoint', echo.lower())} "
        "because no session policy allows the sagemaker:DeleteEndpoint action"
    )
    code, message = refusal(sagemaker.describe_endpoint, EndpointName="secret-1")
    assert message.endswith("with an explicit deny in a session policy")
    runtime = client(moorage, "sagemaker-runtime", session)
    assert runtime.invoke_endpoint(EndpointName=echo, Body=b"x")["Body"].read() == b"echo"
    objects = client(moorage, "s3", session)
    assert objects.get_object(Bucket="models-identity-echo", Key="model.tar.gz")["Body"].read()
    url = objects.generate_presigned_url("get_object", Params={"Bucket": "models-identity-echo", "Key": "model.tar.gz"})
    assert urllib.request.urlopen(url).read()
    assert client(moorage, "sts", session).get_caller_identity()["Arn"] == who.removeprefix("User: ")
    # Changed by one letter it is nothing on any of them.
    bad = {**session, "SessionToken": session["SessionToken"][::-1]}
    expected = "The security token included in the request is invalid."
    listing = client(moorage, "sagemaker", bad).list_endpoints
    assert refusal(listing) == ("UnrecognizedClientException", expected)
    invoke = client(moorage, "sagemaker-runtime", bad).invoke_endpoint
    assert refusal(invoke, EndpointName=echo, Body=b"") == ("UnrecognizedClientException", expected)


def test_bad_policies_are_refused_when_a_key_is_made(moorage: Moorage, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    for condition, why in (
        ({"StringSounds": {"aws:username": "a"}}, "Invalid Condition type : StringSounds."),
        ({"StringEquals": {"aws:SourceVpc": "a"}}, "Moorage does not have the condition key aws:SourceVpc yet."),
    ):
        file.write_text(json.dumps(document(allow("*", condition=condition))))
        done = moorage.run("keys", "create", "eve", "--policy", str(file), check=False)
        assert done.returncode == 1
        assert why in done.stderr
        assert "Traceback" not in done.stderr
    assert '"eve"' not in moorage.run("keys", "list", "--output", "json").stdout


def test_a_limited_key_cannot_make_itself_a_better_one(moorage: Moorage, tmp_path: Path) -> None:
    key = made_key(moorage, tmp_path, "climber", document(allow(["sagemaker:*", "iam:CreateAccessKey"])))
    answer = own_page(moorage, key, "POST", "/_moorage/keys", {"user_name": "climber"})
    assert answer == (400, "iam:PutUserPolicy")
    page = f"/_moorage/keys/{key['access_key_id']}/policy"
    assert own_page(moorage, key, "PUT", page, {"policies": None}) == (400, "iam:PutUserPolicy")
    assert own_page(moorage, key, "GET", "/_moorage/keys", None) == (400, "iam:ListAccessKeys")
    assert own_page(moorage, key, "GET", "/_moorage/instances", None)[0] == 200


def own_page(moorage: Moorage, key: dict[str, str], method: str, path: str, members: Any) -> tuple[int, str]:
    """Ask one of Moorage's own pages; gives the status and the action that an error names."""
    body = b"" if members is None else json.dumps(members).encode()
    request = AWSRequest(
        method, moorage.server()["url"] + path, data=body, headers={"Content-Type": "application/json"}
    )
    credentials = Credentials(key["access_key_id"], key["secret_access_key"])
    SigV4Auth(credentials, "sagemaker", "us-east-1").add_auth(request)
    answer = URLLib3Session().send(request.prepare())
    message = str(json.loads(answer.content).get("message", ""))
    return answer.status_code, message.partition("perform: ")[2].partition(" ")[0]


def test_the_command_line_of_aws_says_who_it_is(moorage: Moorage) -> None:
    aws = Path(sys.executable).with_name("aws")
    done = subprocess.run(
        [aws, "sts", "get-caller-identity"],
        env={**os.environ, **moorage.exports()},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/admin"
