"""boto3 and strict capacity on a machine of 4 vCPUs and 16 GiB: pools, reservations, promises and their refusals."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.control import IMAGE, KEY_ID, SECRET, ControlPlane, control_plane
from tests.support.product import wait_until

from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.cli.client import ApiError, Client
from moorage.cli.server import Server
from moorage.kms.records import Home
from moorage.kms.ring import KeyRing

LARGE, XLARGE = "ml.m5.large", "ml.m5.xlarge"
FAST = {"Delay": 0.05, "MaxAttempts": 400}
RESERVATIONS = "/_moorage/reservations"
PROMISES: dict[str, Any] = {
    "CoreDumpConfig": {"DestinationS3Uri": "s3://cores/here"},
    "VolumeSizeInGB": 16,
    "ModelDataDownloadTimeoutInSeconds": 61,
    "ContainerStartupHealthCheckTimeoutInSeconds": 62,
    "EnableSSMAccess": True,
}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane(tmp_path, capacity="strict") as running:
        yield running


@pytest.fixture
def sagemaker(plane: ControlPlane) -> Any:
    made = plane.client()
    for name in ("m", "small"):
        made.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE, "Environment": {"NAME": name}})
    return made


@pytest.fixture
def own(plane: ControlPlane) -> Client:
    """What the command line asks the server with."""
    key = {"access_key_id": KEY_ID, "secret_access_key": SECRET, "account": "000000000000", "user_name": "tester"}
    nowhere = Path("/nonexistent")
    return Client(Server(plane.url, 1, "us-east-1", "000000000000", "0", nowhere, nowhere, {}, key))


def a_variant(name: str = "v", count: int = 1, kind: str | None = LARGE, **members: Any) -> dict[str, Any]:
    made = {"VariantName": name, "ModelName": "m", "InitialInstanceCount": count, "InstanceType": kind, **members}
    return {member: value for member, value in made.items() if value is not None}


def create(sagemaker: Any, name: str, *variants: dict[str, Any], wait: bool = True, **members: Any) -> None:
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants), **members)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    if wait:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=FAST)


def delete(sagemaker: Any, name: str) -> None:
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=FAST)


def specs_of(plane: ControlPlane, endpoint: str) -> list[Any]:
    return [spec for spec in plane.node.specs.values() if spec.endpoint == endpoint]


def refused(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as fault:
        call(**members)
    assert fault.value.response["Error"]["Code"] == "ValidationException"
    return str(fault.value.response["Error"]["Message"])


def pools(*types: str, last_of: str | None = None) -> list[dict[str, Any]]:
    """Make pools, the best first, of which the last may serve another model."""
    made: list[dict[str, Any]] = [{"InstanceType": kind, "Priority": rank} for rank, kind in enumerate(types, 1)]
    if last_of is not None:
        made[-1]["ModelNameOverride"] = last_of
    return made


def test_promises_of_a_configuration_are_given_back_and_kept_by_the_instances(
    plane: ControlPlane, sagemaker: Any
) -> None:
    create(sagemaker, "ep", a_variant(**PROMISES), EnableNetworkIsolation=True)
    described = sagemaker.describe_endpoint_config(EndpointConfigName="ep")
    assert described["EnableNetworkIsolation"] is True
    assert {name: described["ProductionVariants"][0][name] for name in PROMISES} == PROMISES
    (spec,) = specs_of(plane, "ep")
    assert spec.core_dumps.destination == "s3://cores/here"
    assert (spec.volume_gib, spec.download_timeout_seconds, spec.startup_timeout_seconds) == (16, 61, 62)
    assert (spec.shell_access, spec.network_isolation) == (True, True)


def test_isolation_of_the_model_alone_isolates_its_instances(plane: ControlPlane, sagemaker: Any) -> None:
    sagemaker.create_model(ModelName="alone", PrimaryContainer={"Image": IMAGE}, EnableNetworkIsolation=True)
    assert sagemaker.describe_model(ModelName="alone")["EnableNetworkIsolation"] is True
    create(sagemaker, "ep", a_variant(ModelName="alone"), a_variant("open"))
    assert {spec.variant: spec.network_isolation for spec in specs_of(plane, "ep")} == {"v": True, "open": False}


def test_update_and_shadow_carry_their_own_promises(plane: ControlPlane, sagemaker: Any) -> None:
    create(sagemaker, "ep", a_variant(kind="ml.m8g.medium", VolumeSizeInGB=10))
    sagemaker.create_endpoint_config(
        EndpointConfigName="new",
        ProductionVariants=[a_variant(kind="ml.c8g.medium", VolumeSizeInGB=20)],
        ShadowProductionVariants=[a_variant("shadow", kind="ml.r8g.medium", VolumeSizeInGB=30)],
    )
    sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="new", RetainAllVariantProperties=True)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)
    sizes = {(spec.variant, spec.instance_type): spec.volume_gib for spec in specs_of(plane, "ep")}
    assert sizes == {("v", "ml.m8g.medium"): 10, ("v", "ml.c8g.medium"): 20, ("shadow", "ml.r8g.medium"): 30}


def test_pools_are_taken_in_the_order_of_their_priority(plane: ControlPlane, sagemaker: Any) -> None:
    several = a_variant(kind=None, InstancePools=pools(XLARGE, LARGE)[::-1])
    create(sagemaker, "first", several)
    assert [spec.instance_type for spec in specs_of(plane, "first")] == [XLARGE]
    delete(sagemaker, "first")
    create(sagemaker, "beside", a_variant())
    create(sagemaker, "second", several)
    assert [spec.instance_type for spec in specs_of(plane, "second")] == [LARGE]
    (variant,) = sagemaker.describe_endpoint(EndpointName="second")["ProductionVariants"]
    assert variant["InstancePools"] == [
        {"InstanceType": XLARGE, "CurrentInstanceCount": 0},
        {"InstanceType": LARGE, "CurrentInstanceCount": 1},
    ]


def test_pool_serves_the_model_that_it_overrides(plane: ControlPlane, sagemaker: Any) -> None:
    several = a_variant(count=2, kind=None, InstancePools=pools("ml.r5.24xlarge", LARGE, last_of="small"))
    create(sagemaker, "ep", several)
    sagemaker.delete_model(ModelName="small")
    assert [spec.containers[0].environment for spec in specs_of(plane, "ep")] == [{"NAME": "small"}] * 2
    (variant,) = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    assert [image["SpecifiedImage"] for image in variant["DeployedImages"]] == [IMAGE]


def test_pending_endpoint_shows_its_pools_instead_of_an_instance_type(sagemaker: Any, plane: ControlPlane) -> None:
    create(sagemaker, "ep", a_variant(kind=None, InstancePools=pools("ml.p4d.24xlarge")), wait=False)
    (pending,) = sagemaker.describe_endpoint(EndpointName="ep")["PendingDeploymentSummary"]["ProductionVariants"]
    assert "InstanceType" not in pending
    assert pending["InstancePools"] == [{"InstanceType": "ml.p4d.24xlarge", "CurrentInstanceCount": 0}]


def test_pools_exclude_an_instance_type_and_each_other(sagemaker: Any) -> None:
    both = a_variant(InstancePools=pools(LARGE))
    text = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[both])
    assert text == "Only one of InstanceType and InstancePools can be specified: variant v."
    twice = a_variant(kind=None, InstancePools=[{"InstanceType": k, "Priority": 1} for k in (LARGE, XLARGE)])
    text = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[twice])
    assert text == "Each instance pool of a variant must have another Priority: variant v."
    missing = a_variant(kind=None, InstancePools=pools(LARGE, last_of="none"))
    text = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[missing])
    assert text == 'Could not find model "arn:aws:sagemaker:us-east-1:000000000000:model/none".'


def reserved(arn: str) -> dict[str, str]:
    return {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": arn}


def test_reserved_capacity_is_used_by_who_names_it_and_by_nobody_else(
    plane: ControlPlane, sagemaker: Any, own: Client
) -> None:
    made = own.own("POST", RESERVATIONS, {"name": "kept", "instance_type": LARGE, "count": 1})
    assert made["arn"] == "arn:aws:sagemaker:us-east-1:000000000000:ml-reservation/kept"
    create(sagemaker, "others", a_variant(count=2), wait=False)
    named = a_variant(CapacityReservationConfig=reserved(made["arn"].replace("kept", "KEPT")))
    create(sagemaker, "ep", named)
    (variant,) = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    assert variant["CapacityReservationConfig"] == {
        **reserved(made["arn"]),
        "TotalInstanceCount": 1,
        "AvailableInstanceCount": 0,
        "UsedByCurrentEndpoint": 1,
        "Ec2CapacityReservations": [],
    }
    assert len(specs_of(plane, "others")) == 1
    assert sagemaker.describe_endpoint(EndpointName="others")["EndpointStatus"] == "Creating"
    delete(sagemaker, "ep")
    assert own.own("DELETE", f"{RESERVATIONS}/kept") == {}
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="others", WaiterConfig=FAST)


def test_reservations_are_listed_and_kept_as_long_as_they_are_named(sagemaker: Any, own: Client) -> None:
    made = own.own("POST", RESERVATIONS, {"name": "kept", "instance_type": LARGE, "count": 2})
    create(sagemaker, "ep", a_variant(CapacityReservationConfig=reserved(made["arn"])))
    (listed,) = own.own("GET", RESERVATIONS)["reservations"]
    assert (listed["name"], listed["instance_type"], listed["count"], listed["used"]) == ("kept", LARGE, 2, 1)
    with pytest.raises(ApiError, match="is used by the endpoint ep"):
        own.own("DELETE", f"{RESERVATIONS}/kept")
    with pytest.raises(ApiError, match="Cannot create already existing reservation"):
        own.own("POST", RESERVATIONS, {"name": "Kept", "instance_type": LARGE, "count": 1})
    with pytest.raises(ApiError, match=r"no room for 1 x ml\.m5\.large .* neither used nor reserved"):
        own.own("POST", RESERVATIONS, {"name": "more", "instance_type": LARGE, "count": 1})
    with pytest.raises(ApiError, match="Could not find reservation"):
        own.own("DELETE", f"{RESERVATIONS}/more")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"name": "a_b", "instance_type": LARGE, "count": 1}, "name must have 1 to 63 letters"),
        ({"name": "a", "instance_type": "m5.large", "count": 1}, "instance_type must be an instance type"),
        ({"name": "a", "instance_type": LARGE, "count": 0}, "count must be a whole number from 1 to 1000"),
        ({"name": "a", "instance_type": LARGE, "count": True}, "count must be a whole number"),
    ],
)
def test_reservations_of_nonsense_are_refused(own: Client, content: dict[str, Any], text: str) -> None:
    with pytest.raises(ApiError, match=text):
        own.own("POST", RESERVATIONS, content)


def test_unknown_reservation_and_one_of_another_type_are_refused(sagemaker: Any, own: Client) -> None:
    arn = "arn:aws:sagemaker:us-east-1:000000000000:ml-reservation/none"
    variants = [a_variant(CapacityReservationConfig=reserved(arn))]
    text = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=variants)
    assert text == f'Could not find reservation "{arn}": variant v.'
    made = own.own("POST", RESERVATIONS, {"name": "kept", "instance_type": XLARGE, "count": 1})
    variants = [a_variant(CapacityReservationConfig=reserved(made["arn"]))]
    text = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=variants)
    assert text == f'The reservation "{made["arn"]}" is for {XLARGE}, which is not an instance type of the variant v.'


def test_reservation_that_has_gone_since_is_refused_at_the_creation(sagemaker: Any, own: Client) -> None:
    made = own.own("POST", RESERVATIONS, {"name": "kept", "instance_type": LARGE, "count": 1})
    variants = [a_variant(CapacityReservationConfig=reserved(made["arn"]))]
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)
    own.own("DELETE", f"{RESERVATIONS}/kept")
    text = refused(sagemaker.create_endpoint, EndpointName="ep", EndpointConfigName="c")
    assert text.startswith("Could not find reservation")


@pytest.mark.parametrize(
    ("member", "members", "variant"),
    [
        ("EnableNetworkIsolation", {"EnableNetworkIsolation": True}, {}),
        ("ProductionVariants.1.VolumeSizeInGB", {}, {"VolumeSizeInGB": 5}),
        ("ProductionVariants.1.EnableSSMAccess", {}, {"EnableSSMAccess": True}),
        ("model alone: EnableNetworkIsolation", {}, {"ModelName": "alone"}),
    ],
)
def test_what_no_engine_keeps_is_refused_by_name_with_the_reason(
    plane: ControlPlane, sagemaker: Any, member: str, members: dict[str, Any], variant: dict[str, Any]
) -> None:
    sagemaker.create_model(ModelName="alone", PrimaryContainer={"Image": IMAGE}, EnableNetworkIsolation=True)
    sagemaker.create_endpoint_config(EndpointConfigName="before", ProductionVariants=[a_variant(**variant)], **members)
    create(sagemaker, "ep", a_variant())
    known(plane, sagemaker, {member.rpartition(".")[2].rpartition(" ")[2]: "bubblewrap is missing; install it."})
    text = f"{member} cannot be kept on this machine: bubblewrap is missing; install it."
    given = {"EndpointConfigName": "c", "ProductionVariants": [a_variant(**variant)], **members}
    assert refused(sagemaker.create_endpoint_config, **given) == text
    assert refused(sagemaker.create_endpoint, EndpointName="new", EndpointConfigName="before") == text
    assert refused(sagemaker.update_endpoint, EndpointName="ep", EndpointConfigName="before") == text
    harmless = a_variant(EnableSSMAccess=False)
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[harmless], EnableNetworkIsolation=False
    )


def test_key_must_be_there_and_enabled_at_the_configuration_and_again_at_the_creation(
    plane: ControlPlane, sagemaker: Any, tmp_path: Path
) -> None:
    ring = KeyRing(tmp_path / "kms", SystemClock(), SystemIds())
    key = ring.create_key(Home("000000000000", "us-east-1"))
    missing = {"EndpointConfigName": "c", "ProductionVariants": [a_variant()], "KmsKeyId": "alias/none"}
    text = refused(sagemaker.create_endpoint_config, **missing)
    assert text.startswith("KmsKeyId: The KMS key alias/none cannot be used: ")
    cores = a_variant(CoreDumpConfig={"DestinationS3Uri": "s3://cores", "KmsKeyId": "alias/none"})
    dumping = {"EndpointConfigName": "c", "ProductionVariants": [cores]}
    text = refused(sagemaker.create_endpoint_config, **dumping)
    assert text.startswith("CoreDumpConfig.KmsKeyId: The KMS key alias/none cannot be used: ")
    create(sagemaker, "before", a_variant(), KmsKeyId=key.key_id)
    assert [spec.kms_key for spec in specs_of(plane, "before")] == [key.arn]
    ring.disable(key)
    text = refused(sagemaker.create_endpoint, EndpointName="ep", EndpointConfigName="before")
    assert text.startswith(f"KmsKeyId: The KMS key {key.key_id} cannot be used: ")
    assert "disabled" in text


def known(plane: ControlPlane, sagemaker: Any, refuses: dict[str, str]) -> None:
    """Have the node agent say what it refuses, and wait until the control plane has heard it."""
    plane.node.refuses = refuses
    asyncio.run_coroutine_threadsafe(plane.node.restart(), plane.loop).result(10)
    wait_until(lambda: _is_refused(sagemaker), within=10, what="the control plane knows of refusals")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=FAST)


def _is_refused(sagemaker: Any) -> bool:
    """Say whether a configuration that asks for everything is refused."""
    probe = {"EndpointConfigName": "probe", "EnableNetworkIsolation": True}
    try:
        sagemaker.create_endpoint_config(
            **probe, ProductionVariants=[a_variant(EnableSSMAccess=True, VolumeSizeInGB=1)]
        )
    except ClientError:
        return True
    sagemaker.delete_endpoint_config(EndpointConfigName="probe")
    return False
