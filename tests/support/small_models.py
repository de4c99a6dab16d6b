"""Code-only models for tests of what surrounds a model, and configurations with shadows, strategies and capture."""

from typing import Any

from tests.support.fixtures import Deployment

_TEXT = """
    import json, os, sys, time

    def model_fn(model_dir):
        return None

    def input_fn(body, content_type):
        return body if isinstance(body, str) else bytes(body).decode("latin-1")

    def output_fn(prediction, accept):
        return prediction, accept
"""

ECHO = f"""{_TEXT}
    def predict_fn(data, model):
        return data
"""
"""Answers with what it was asked."""

TELLING = f"""{_TEXT}
    def predict_fn(data, model, context):
        told = {{"data": data, "headers": dict(context.get_all_request_header(0))}}
        print("TOLD " + json.dumps(told), flush=True)
        return "told"
"""
"""Prints what it was asked, which ``moorage logs`` shows."""

SLOW = f"""{_TEXT}
    def predict_fn(data, model):
        print("TOLD copy", flush=True)
        time.sleep(6)
        return data
"""

BROKEN = f"""{_TEXT}
    def predict_fn(data, model):
        print("TOLD copy", flush=True)
        raise RuntimeError("no rudder")
"""

DYING = f"""{_TEXT}
    def predict_fn(data, model):
        print("TOLD copy", flush=True)
        os._exit(1)
"""

HUGE = f"""{_TEXT}
    def predict_fn(data, model):
        print("TOLD copy", flush=True)
        return b"x" * 30_000_000
"""

SITTING = f"""{_TEXT.replace("return None", "return os.urandom(8).hex()")}
    def predict_fn(data, model):
        if data.endswith("sit"):
            print("TOLD sits", flush=True)
            time.sleep(4)
        return model
"""
"""Answers with a name that each instance gives itself; takes its time over what ends in ``sit``."""


def a_variant(name: str, model: str, count: int = 1, **changes: Any) -> dict[str, Any]:
    """Make a variant as a client sends it."""
    return {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": count,
        "InstanceType": "ml.m5.large",
        **changes,
    }


def configure(deployment: Deployment, name: str, *variants: dict[str, Any], **members: Any) -> None:
    """Make an endpoint configuration."""
    deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants), **members)


def serve(deployment: Deployment, name: str, *variants: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Make a configuration and an endpoint of it, and wait until it serves; gives its description."""
    configure(deployment, name, *variants, **members)
    deployment.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    described = deployment.settled(name)
    assert described["EndpointStatus"] == "InService", described.get("FailureReason")
    return described


def told(deployment: Deployment, endpoint: str, variant: str) -> list[str]:
    """Give what the instances of a variant have told in their logs."""
    printed = deployment.moorage.run("logs", f"{endpoint}/{variant}").stdout
    return [line.partition("TOLD ")[2] for line in printed.splitlines() if "TOLD " in line]
