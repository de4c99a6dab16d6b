"""Values with everything that a test does not care about filled in."""

from typing import Any

from moorage.engine.contract import InstanceReport, InstanceState
from moorage.state.records import (
    Container,
    DeployedVariant,
    Deployment,
    EndpointRecord,
    EndpointStatus,
    InstanceRecord,
    Stage,
)

ACCOUNT = "000000000000"
REGION = "us-east-1"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"


def a_variant(name: str = "AllTraffic", count: int = 1, **changes: Any) -> DeployedVariant:
    """Make a deployed variant of a model with one container."""
    data = {"S3Uri": f"s3://models/{name}.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"}
    values: dict[str, Any] = {
        "name": name,
        "model_name": f"model-{name}",
        "instance_type": "ml.m5.large",
        "desired_count": count,
        "desired_weight": 1.0,
        "containers": (Container("primary", IMAGE, {}, data),),
    }
    return DeployedVariant(**{**values, **changes})


def an_endpoint(*variants: DeployedVariant, status: EndpointStatus, **changes: Any) -> EndpointRecord:
    """Make an endpoint, by default of one variant with one instance."""
    values: dict[str, Any] = {
        "account": ACCOUNT,
        "region": REGION,
        "name": "ep",
        "config_name": "config",
        "variants": variants or (a_variant(),),
        "status": status,
        "failure_reason": None,
        "created_at": 0.0,
        "modified_at": 0.0,
    }
    return EndpointRecord(**{**values, **changes})


def a_deployment(*variants: DeployedVariant, **changes: Any) -> Deployment:
    """Make a deployment that has just begun, by default of one variant with one instance."""
    values: dict[str, Any] = {
        "config_name": "new-config",
        "variants": variants or (a_variant(),),
        "fleet": 1,
        "stage": Stage.LAUNCHING,
        "started_at": 0.0,
        "stage_since": 0.0,
    }
    return Deployment(**{**values, **changes})


def an_instance(instance_id: str, variant: str = "AllTraffic", **changes: Any) -> InstanceRecord:
    """Make the record of an instance of the endpoint that ``an_endpoint`` makes."""
    values: dict[str, Any] = {
        "instance_id": instance_id,
        "account": ACCOUNT,
        "region": REGION,
        "endpoint": "ep",
        "variant": variant,
        "created_at": 0.0,
    }
    return InstanceRecord(**{**values, **changes})


def a_report(
    instance_id: str, state: InstanceState = InstanceState.READY, variant: str = "AllTraffic", **changes: Any
) -> InstanceReport:
    """Make a node agent's report of that instance."""
    values: dict[str, Any] = {
        "instance_id": instance_id,
        "endpoint": "ep",
        "variant": variant,
        "state": state,
        "since": 0.0,
        "address": f"unix:/run/{instance_id}.sock",
        "account": ACCOUNT,
        "region": REGION,
    }
    return InstanceReport(**{**values, **changes})
