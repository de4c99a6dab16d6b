"""boto3 against the control plane alone: the life of resources, with AWS's texts."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError
from tests.support.control import IMAGE, KEY_ID, ROLE, ControlPlane, control_plane

from moorage.testing.fake_node import Script

ARN = "arn:aws:sagemaker:us-east-1:000000000000"
FAST = {"Delay": 0.05, "MaxAttempts": 200}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("c")) as running:
        running.put("models", "m.tar.gz")
        yield running


@pytest.fixture
def sagemaker(plane: ControlPlane, request: pytest.FixtureRequest) -> Any:
    """A client of a region of the test's own, so that tests do not see each other's resources."""
    return plane.client(region=f"us-test-{abs(hash(request.node.nodeid)) % 10**9}")


@pytest.fixture
def home(plane: ControlPlane) -> Any:
    return plane.client()


def make_model(sagemaker: Any, name: str = "m", **container: Any) -> None:
    primary = {"Image": IMAGE, "ModelDataUrl": "s3://models/m.tar.gz", **container}
    sagemaker.create_model(ModelName=name, PrimaryContainer=primary, ExecutionRoleArn=ROLE)


def a_variant(name: str = "AllTraffic", **changes: Any) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": "m",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **changes,
    }


def make_endpoint(sagemaker: Any, name: str = "ep", variants: Any = None) -> None:
    make_model(sagemaker)
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants or [a_variant()])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c")


def refused(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as fault:
        call(**members)
    assert fault.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    error = fault.value.response["Error"]
    return error["Code"], error["Message"]


def test_model_is_given_back_with_the_defaults_that_clients_read(sagemaker: Any) -> None:
    make_model(sagemaker, Environment={"A": "1"})
    described = sagemaker.describe_model(ModelName="m")
    assert described["PrimaryContainer"] == {
        "Image": IMAGE,
        "ModelDataUrl": "s3://models/m.tar.gz",
        "Mode": "SingleModel",
        "Environment": {"A": "1"},
        "ModelDataSource": {
            "S3DataSource": {
                "S3Uri": "s3://models/m.tar.gz",
                "S3DataType": "S3Object",
                "CompressionType": "Gzip",
            }
        },
    }
    assert described["ExecutionRoleArn"] == ROLE
    assert described["EnableNetworkIsolation"] is False


def test_model_without_image_or_artefact_is_refused_in_aws_words(home: Any) -> None:
    def create(**container: Any) -> tuple[str, str]:
        return refused(home.create_model, ModelName="bad", PrimaryContainer=container, ExecutionRoleArn=ROLE)

    assert create(Image="nobody/knows:1") == (
        "ValidationException",
        "Requested image nobody/knows:1 not found.",
    )
    code, message = create(Image=IMAGE, ModelDataUrl="s3://models/none.tar.gz")
    assert code == "ValidationException"
    assert message.startswith(
        f'Could not access model data at s3://models/none.tar.gz. Please ensure that the role "{ROLE}" exists'
    )
    assert "is located in us-east-1." in message
    container = {"Image": IMAGE, "ModelDataUrl": "s3://models/none.tar.gz"}
    assert refused(home.create_model, ModelName="bad", PrimaryContainer=container)[1] == (
        "Could not access model data at s3://models/none.tar.gz. "
        "Please ensure that there is an object located at the URL."
    )


def test_all_modelled_violations_come_in_one_message(home: Any) -> None:
    code, message = refused(
        home.create_model, ModelName="bad_name", PrimaryContainer={"Image": "img:1"}, ExecutionRoleArn="x" * 20
    )
    assert code == "ValidationException"
    assert message.startswith("2 validation errors detected: Value 'bad_name' at 'modelName' failed to satisfy")


def test_missing_resources_are_named_by_their_arn(home: Any) -> None:
    name = {"EndpointName": "none"}
    assert refused(home.describe_model, ModelName="none")[1] == f'Could not find model "{ARN}:model/none".'
    assert refused(home.delete_model, ModelName="none")[1] == f'Could not find model "{ARN}:model/none".'
    config = f'Could not find endpoint configuration "{ARN}:endpoint-config/none".'
    assert refused(home.describe_endpoint_config, EndpointConfigName="none")[1] == config
    assert refused(home.create_endpoint, EndpointName="e", EndpointConfigName="none")[1] == config
    assert refused(home.describe_endpoint, **name)[1] == f'Could not find endpoint "{ARN}:endpoint/none".'
    assert refused(home.delete_endpoint, **name)[1] == f'Could not find endpoint "{ARN}:endpoint/none".'
    model = f'Could not find model "{ARN}:model/none".'
    variants = [a_variant(ModelName="none")]
    assert refused(home.create_endpoint_config, EndpointConfigName="x", ProductionVariants=variants)[1] == model


def test_names_are_taken_whatever_their_case(sagemaker: Any) -> None:
    make_endpoint(sagemaker)
    region = sagemaker.meta.region_name
    arn = f"arn:aws:sagemaker:{region}:000000000000"
    primary = {"Image": IMAGE}
    again = refused(sagemaker.create_model, ModelName="M", PrimaryContainer=primary, ExecutionRoleArn=ROLE)
    assert again == ("ValidationException", f'Cannot create already existing model "{arn}:model/M".')
    again = refused(sagemaker.create_endpoint_config, EndpointConfigName="C", ProductionVariants=[a_variant()])
    assert again[1] == f'Cannot create already existing endpoint configuration "{arn}:endpoint-config/C".'
    again = refused(sagemaker.create_endpoint, EndpointName="EP", EndpointConfigName="c")
    assert again[1] == f'Cannot create already existing endpoint "{arn}:endpoint/EP".'


def test_configuration_can_be_made_again_of_what_describe_gives(sagemaker: Any) -> None:
    make_model(sagemaker)
    variants = [a_variant("a", InitialVariantWeight=2.0), a_variant("b", InitialInstanceCount=2)]
    sagemaker.create_endpoint_config(EndpointConfigName="first", ProductionVariants=variants)
    first = sagemaker.describe_endpoint_config(EndpointConfigName="first")
    assert [variant["InitialVariantWeight"] for variant in first["ProductionVariants"]] == [2.0, 1.0]
    assert "ExecutionRoleArn" not in first
    given = {name: first[name] for name in ("ProductionVariants", "EnableNetworkIsolation")}
    sagemaker.create_endpoint_config(EndpointConfigName="second", **given)
    second = sagemaker.describe_endpoint_config(EndpointConfigName="second")
    assert second["ProductionVariants"] == first["ProductionVariants"]


def test_members_that_are_not_built_are_refused_by_name(sagemaker: Any) -> None:
    make_model(sagemaker)
    code, message = refused(
        sagemaker.create_endpoint_config,
        EndpointConfigName="c",
        ProductionVariants=[a_variant()],
        MetricsConfig={"EnableEnhancedMetrics": True},
    )
    assert (code, message) == ("ValidationException", "MetricsConfig is not supported by Moorage yet.")
    variants = [a_variant(ManagedInstanceScaling={"Status": "ENABLED"})]
    role = "arn:aws:iam::000000000000:role/moorage"
    del variants[0]["ModelName"]
    code, message = refused(
        sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=variants, ExecutionRoleArn=role
    )
    assert message == "ProductionVariants.1.ManagedInstanceScaling is not supported by Moorage yet."
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[a_variant(EnableSSMAccess=False)], EnableNetworkIsolation=False
    )


def test_endpoint_lives_from_creation_to_deletion(sagemaker: Any) -> None:
    make_endpoint(sagemaker, variants=[a_variant("a", InitialInstanceCount=2), a_variant("b")])
    created = sagemaker.describe_endpoint(EndpointName="ep")
    assert created["EndpointStatus"] == "Creating"
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)
    described = sagemaker.describe_endpoint(EndpointName="ep")
    first = described["ProductionVariants"][0]
    assert (first["CurrentInstanceCount"], first["DesiredInstanceCount"]) == (2, 2)
    assert first["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    assert first["DeployedImages"][0]["ResolvedImage"].endswith("@sha256:" + "0" * 64)
    assert "PendingDeploymentSummary" not in described
    assert "VariantStatus" not in first
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    sagemaker.delete_model(ModelName="m")
    sagemaker.delete_endpoint(EndpointName="ep")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="ep", WaiterConfig=FAST)
    assert sagemaker.list_endpoints()["Endpoints"] == []


def test_creating_endpoint_shows_what_is_to_come_and_refuses_changes(plane: ControlPlane, sagemaker: Any) -> None:
    plane.scripts["slow"] = Script(ready_after=1.0)
    make_endpoint(sagemaker, "slow")
    described = sagemaker.describe_endpoint(EndpointName="slow")
    pending = described["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "c"
    assert pending["ProductionVariants"][0]["InstanceType"] == "ml.m5.large"
    assert pending["ProductionVariants"][0]["VariantStatus"][0]["StatusMessage"] == "Launching 1 instance(s)."
    arn = described["EndpointArn"]
    assert refused(sagemaker.delete_endpoint, EndpointName="slow") == (
        "ValidationException",
        f'Cannot update in-progress endpoint "{arn}".',
    )
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="slow", WaiterConfig=FAST)


def test_failed_endpoint_says_why_and_can_only_be_deleted(plane: ControlPlane, sagemaker: Any) -> None:
    plane.scripts["sick"] = Script(fails_after=0.1, log_tail="ValueError: no")
    make_endpoint(sagemaker, "sick")
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="sick", WaiterConfig=FAST)
    reason = sagemaker.describe_endpoint(EndpointName="sick")["FailureReason"]
    assert reason.startswith(
        "The primary container for production variant AllTraffic did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    assert reason.endswith("ValueError: no")
    change = [{"VariantName": "AllTraffic", "DesiredWeight": 2.0}]
    code, message = refused(
        sagemaker.update_endpoint_weights_and_capacities, EndpointName="sick", DesiredWeightsAndCapacities=change
    )
    assert code == "ValidationException"
    assert "its status is Failed" in message
    sagemaker.delete_endpoint(EndpointName="sick")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="sick", WaiterConfig=FAST)


def make_pipeline(sagemaker: Any, name: str, mode: str | None = None, *hostnames: str) -> list[dict[str, Any]]:
    """Make a model of two containers; gives them."""
    named = [{"ContainerHostname": hostname} for hostname in hostnames] or [{}, {}]
    containers = [{"Image": IMAGE, "ModelDataUrl": "s3://models/m.tar.gz", **name} for name in named]
    more = {} if mode is None else {"InferenceExecutionConfig": {"Mode": mode}}
    sagemaker.create_model(ModelName=name, Containers=containers, ExecutionRoleArn=ROLE, **more)
    return containers


def test_model_of_several_containers_is_given_back_as_it_was_made(sagemaker: Any) -> None:
    make_pipeline(sagemaker, "m", "Direct", "a", "b")
    described = sagemaker.describe_model(ModelName="m")
    assert [container["ContainerHostname"] for container in described["Containers"]] == ["a", "b"]
    assert described["InferenceExecutionConfig"] == {"Mode": "Direct"}
    assert "PrimaryContainer" not in described


def test_pipeline_runs_all_its_containers_and_the_one_that_fails_is_named(plane: ControlPlane, sagemaker: Any) -> None:
    plane.scripts["sick-pipe"] = Script(fails_after=0.1, failing_container=1)
    make_pipeline(sagemaker, "m")
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[a_variant()])
    sagemaker.create_endpoint(EndpointName="pipe", EndpointConfigName="c")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="pipe", WaiterConfig=FAST)
    (spec,) = [spec for spec in plane.node.specs.values() if spec.endpoint == "pipe"]
    assert [container.name for container in spec.containers] == ["container-1", "container-2"]

    sagemaker.create_endpoint(EndpointName="sick-pipe", EndpointConfigName="c")
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="sick-pipe", WaiterConfig=FAST)
    reason = sagemaker.describe_endpoint(EndpointName="sick-pipe")["FailureReason"]
    assert reason.startswith("The container-2 container for production variant AllTraffic did not pass the ping")


def test_pool_s_model_has_the_containers_of_its_variant_s(sagemaker: Any) -> None:
    make_model(sagemaker, "single")
    make_pipeline(sagemaker, "m")
    pooled = {k: v for k, v in a_variant().items() if k != "InstanceType"}
    pools = [{"InstanceType": "ml.m5.large", "Priority": 1, "ModelNameOverride": "single"}]
    variants = [{**pooled, "InstancePools": pools}]
    code, message = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=variants)
    assert code == "ValidationException"
    assert message.startswith("ModelNameOverride single must have the same containers")


def test_weights_and_capacities_change_and_bad_variants_are_named(sagemaker: Any) -> None:
    make_endpoint(sagemaker, variants=[a_variant("a"), a_variant("b")])
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)

    def update(*items: dict[str, Any]) -> Any:
        return sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="ep", DesiredWeightsAndCapacities=list(items)
        )

    twice = refused(lambda: update({"VariantName": "a"}, {"VariantName": "a"}))
    assert twice[1] == 'The variant name "a" was non-unique within the request.'
    unknown = refused(lambda: update({"VariantName": "x"}))
    assert unknown[1] == 'The variant name(s) "x" is/are not present within endpoint configuration "c".'
    zero = refused(lambda: update({"VariantName": "a", "DesiredInstanceCount": 0}))
    assert zero[0] == "ValidationException"
    update(
        {"VariantName": "a", "DesiredWeight": 1},
        {"VariantName": "b", "DesiredWeight": 3, "DesiredInstanceCount": 3},
    )
    assert sagemaker.describe_endpoint(EndpointName="ep")["EndpointStatus"] in {"Updating", "InService"}
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)
    variants = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    assert [variant["CurrentWeight"] for variant in variants] == [1.0, 3.0]
    assert [variant["CurrentInstanceCount"] for variant in variants] == [1, 3]


def test_lists_page_without_skipping_or_repeating(sagemaker: Any) -> None:
    for number in range(23):
        sagemaker.create_model(ModelName=f"m{number:02}", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    every = [f"m{number:02}" for number in range(23)]
    pages = sagemaker.get_paginator("list_models").paginate(
        SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 5}
    )
    assert [model["ModelName"] for page in pages for model in page["Models"]] == every
    assert [model["ModelName"] for model in sagemaker.list_models()["Models"]] == every[:-11:-1]
    page = sagemaker.list_models(SortBy="Name", SortOrder="Ascending", MaxResults=5)
    sagemaker.delete_model(ModelName="m04")
    sagemaker.create_model(ModelName="m00a", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    following = sagemaker.list_models(SortBy="Name", SortOrder="Ascending", MaxResults=5, NextToken=page["NextToken"])
    assert [model["ModelName"] for model in following["Models"]] == every[5:10]
    code, message = refused(sagemaker.list_models, NextToken=page["NextToken"], SortBy="Name")
    assert code == "ValidationException"
    assert message.startswith("Invalid pagination token")
    other_list = {"SortBy": "Name", "SortOrder": "Ascending", "NextToken": page["NextToken"]}
    assert refused(sagemaker.list_endpoint_configs, **other_list)[1].startswith("Invalid pagination token")
    assert refused(sagemaker.list_endpoints, **other_list)[1].startswith("Invalid pagination token")
    found = sagemaker.list_models(NameContains="M1", MaxResults=100)["Models"]
    assert len(found) == 10


def test_lists_filter_by_time_and_status(sagemaker: Any) -> None:
    make_endpoint(sagemaker)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)
    listed = sagemaker.list_endpoints(StatusEquals="InService", SortBy="Status")["Endpoints"]
    assert [endpoint["EndpointName"] for endpoint in listed] == ["ep"]
    assert sagemaker.list_endpoints(StatusEquals="Failed")["Endpoints"] == []
    born = listed[0]["CreationTime"]
    assert sagemaker.list_endpoints(CreationTimeBefore=born)["Endpoints"] == []
    assert sagemaker.list_endpoints(CreationTimeAfter=int(time.time()) + 1000)["Endpoints"] == []
    assert len(sagemaker.list_endpoints(CreationTimeAfter=int(born.timestamp()))["Endpoints"]) == 1


def test_tags_are_set_listed_and_deleted_by_arn_in_any_case(sagemaker: Any) -> None:
    sagemaker.create_model(
        ModelName="Tagged",
        PrimaryContainer={"Image": IMAGE},
        ExecutionRoleArn=ROLE,
        Tags=[{"Key": "a", "Value": "1"}],
    )
    arn = sagemaker.describe_model(ModelName="Tagged")["ModelArn"]
    added = sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])["Tags"]
    assert added == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
    sagemaker.delete_tags(ResourceArn=arn.lower(), TagKeys=["a", "none"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": ""}]
    assert refused(sagemaker.list_tags, ResourceArn=arn + "x")[1] == f'Could not find model "{arn}x".'
    code, _message = refused(sagemaker.list_tags, ResourceArn=arn, MaxResults=50, NextToken="x")
    assert code == "ValidationException"


def test_regions_do_not_see_each_other(plane: ControlPlane, sagemaker: Any) -> None:
    make_model(sagemaker, "here")
    assert plane.client(region="eu-west-9").list_models()["Models"] == []


def test_wrong_secret_and_unknown_key_get_aws_codes(plane: ControlPlane) -> None:
    code, _ = refused(plane.client(secret="wrong").list_models)
    assert code == "InvalidSignatureException"
    code, message = refused(plane.client(key_id="AKIANOBODYNOBODYNOBO").list_models)
    assert code == "UnrecognizedClientException"
    assert message == "The security token included in the request is invalid."


def test_operation_that_moorage_does_not_have_is_refused_clearly(home: Any) -> None:
    code, message = refused(home.list_training_jobs)
    assert code == "UnknownOperationException"
    assert message == "Moorage does not have the operation ListTrainingJobs of Amazon SageMaker Service."


def test_restarted_control_plane_has_everything(tmp_path: Path) -> None:
    with control_plane(tmp_path) as running:
        running.put("models", "m.tar.gz")
        make_endpoint(running.client())
        running.client().get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "snapshot.json").stat().st_mode & 0o777 == 0o600
    with control_plane(tmp_path) as running:
        sagemaker = running.client()
        assert sagemaker.describe_endpoint(EndpointName="ep")["EndpointStatus"] == "InService"
        assert sagemaker.describe_model(ModelName="m")["ModelName"] == "m"
        assert KEY_ID
