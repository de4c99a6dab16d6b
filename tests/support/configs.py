"""Endpoint configurations as clients send them, with everything that a test does not care about filled in."""

from typing import Any


def variant(name: str = "v", **changes: Any) -> dict[str, Any]:
    """Make a variant of instances with a model; a change to None takes the member away."""
    made = {"VariantName": name, "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1, **changes}
    return {member: value for member, value in made.items() if value is not None}


def host(name: str = "v", **changes: Any) -> dict[str, Any]:
    """Make a variant that hosts inference components."""
    return variant(name, ModelName=None, **changes)


def serverless(name: str = "v", **config: Any) -> dict[str, Any]:
    """Make a serverless variant."""
    return {
        "VariantName": name,
        "ModelName": "m",
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5, **config},
    }


def pooled(*pools: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Make a variant of pools, numbered by priority where they do not say one."""
    numbered = [{"Priority": number, "InstanceType": "ml.m5.large", **pool} for number, pool in enumerate(pools, 1)]
    return variant(InstanceType=None, InstancePools=numbered, **changes)


def of(*variants: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Make a request of these production variants, one by default."""
    return {"EndpointConfigName": "c", "ProductionVariants": list(variants) or [variant()], **members}


def explained(shap: Any = None, inference: Any = None, **baseline: Any) -> dict[str, Any]:
    """Make a request with an explainer."""
    config: dict[str, Any] = {"ShapConfig": {"ShapBaselineConfig": baseline, **(shap or {})}}
    if inference is not None:
        config["InferenceConfig"] = inference
    return of(ExplainerConfig={"ClarifyExplainerConfig": config})
