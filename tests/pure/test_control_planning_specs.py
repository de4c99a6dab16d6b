"""What the node agent is told of an instance follows from its endpoint's own copy of what was asked for."""

from dataclasses import replace

import pytest

from moorage.control.planning.observed import Patience
from moorage.control.planning.specs import make_spec
from moorage.engine.contract import ContainerSpec, CoreDumps, InstanceSpec, ModelSource
from moorage.state.records import Container, EndpointStatus
from moorage.testing.builders import ACCOUNT, IMAGE, REGION, a_deployment, a_variant, an_endpoint, an_instance

PATIENCE = Patience(drain_seconds=1.0, capacity_seconds=2.0, download_seconds=30.0, startup_seconds=40.0)
RESOLVED = "registry/image@sha256:" + "0" * 64


def test_variant_that_promises_nothing_gets_the_installations_patience() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    assert make_spec(endpoint, an_instance("i-1"), PATIENCE) == InstanceSpec(
        instance_id="i-1",
        account=ACCOUNT,
        region=REGION,
        endpoint="ep",
        variant="AllTraffic",
        instance_type="ml.m5.large",
        containers=(ContainerSpec("primary", IMAGE, {}, ModelSource("s3://models/AllTraffic.tar.gz")),),
        startup_timeout_seconds=40.0,
        download_timeout_seconds=30.0,
    )


def test_promises_of_a_variant_are_told() -> None:
    variant = a_variant(
        startup_timeout_seconds=61,
        download_timeout_seconds=62,
        network_isolation=True,
        volume_gib=63,
        kms_key="alias/disk",
        core_dumps={"DestinationS3Uri": "s3://cores/of/mine/", "KmsKeyId": "alias/cores"},
        shell_access=True,
    )
    endpoint = an_endpoint(variant, status=EndpointStatus.CREATING)
    assert make_spec(endpoint, an_instance("i-1"), PATIENCE) == replace(
        make_spec(an_endpoint(status=EndpointStatus.CREATING), an_instance("i-1"), PATIENCE),
        startup_timeout_seconds=61,
        download_timeout_seconds=62,
        network_isolation=True,
        volume_gib=63,
        kms_key="alias/disk",
        core_dumps=CoreDumps("s3://cores/of/mine", "alias/cores"),
        shell_access=True,
    )


def test_image_that_one_instance_has_resolved_is_what_the_others_run() -> None:
    container = Container("primary", "registry/image:1", {"A": "1"}, None, RESOLVED, 5.0)
    endpoint = an_endpoint(a_variant(containers=(container,)), status=EndpointStatus.IN_SERVICE)
    spec = make_spec(endpoint, an_instance("i-2"), PATIENCE)
    assert spec.containers == (ContainerSpec("primary", "registry/image:1", {"A": "1"}, None, RESOLVED),)


def test_instance_of_the_new_fleet_is_of_the_new_configuration() -> None:
    deployment = a_deployment(a_variant(instance_type="ml.c5.large"))
    endpoint = an_endpoint(status=EndpointStatus.UPDATING, deployment=deployment)
    assert make_spec(endpoint, an_instance("i-1", fleet=1), PATIENCE).instance_type == "ml.c5.large"
    assert make_spec(endpoint, an_instance("i-1"), PATIENCE).instance_type == "ml.m5.large"


def test_instance_of_no_variant_has_no_specification() -> None:
    with pytest.raises(LookupError):
        make_spec(an_endpoint(status=EndpointStatus.CREATING), an_instance("i-1", variant="other"), PATIENCE)
