"""Rules about the models that a configuration refers to, each by itself."""

from typing import Any

import pytest
from tests.support.configs import of, pooled, serverless, variant

from moorage.control.rules import referenced_models as rules

PLAIN = {"PrimaryContainer": {"Image": "i", "ModelDataUrl": "s3://b/m.tar.gz"}}
SOURCE = {"PrimaryContainer": {"Image": "i", "ModelDataSource": {}}}
BOTH = {"PrimaryContainer": {**PLAIN["PrimaryContainer"], "ModelDataSource": {}}}
MULTI = {"PrimaryContainer": {"Image": "i", "Mode": "MultiModel"}}
SEVERAL = {"Containers": [{"Image": "i"}, {"Image": "j"}]}
PACKAGE = {"PrimaryContainer": {"ModelPackageName": "p"}}
PRIVATE = {"PrimaryContainer": {"Image": "i", "ImageConfig": {"RepositoryAccessMode": "Vpc"}}}
SHADOWED = of(variant(), ShadowProductionVariants=[variant("s", ModelName="n")])
QUEUED = of(AsyncInferenceConfig={})


def first(request: dict[str, Any], *models: Any) -> str | None:
    by_name = dict(zip(["m", "n"], [*models, PLAIN, PLAIN], strict=False))
    return next((text for rule in rules.rules_for(by_name) if (text := rule(request)) is not None), None)


@pytest.mark.parametrize("model", [PLAIN, SOURCE, MULTI, SEVERAL, PACKAGE, {**PLAIN, "VpcConfig": {}}])
def test_real_time_endpoint_takes_every_model(model: dict[str, Any]) -> None:
    assert first(of(), model) is None
    assert first(of(pooled({"ModelNameOverride": "n"})), PLAIN, model) is None


@pytest.mark.parametrize("model", [PLAIN, BOTH])
def test_serverless_takes_plain_models(model: dict[str, Any]) -> None:
    assert first(of(serverless()), model) is None


def test_serverless_model_has_no_source() -> None:
    text = "Model with containers that use ModelDataSource is not supported for serverless endpoints: m."
    assert first(of(serverless()), SOURCE) == text


@pytest.mark.parametrize(
    ("model", "excess"),
    [
        ({**PLAIN, "VpcConfig": {}}, "A model with VpcConfig"),
        ({**PLAIN, "EnableNetworkIsolation": True}, "A model with EnableNetworkIsolation"),
        (MULTI, "A multi-model container"),
        (SEVERAL, "A model with more than one container"),
        (PACKAGE, "A model package"),
        (PRIVATE, "An image of a private registry"),
    ],
)
def test_serverless_model_is_simple(model: dict[str, Any], excess: str) -> None:
    assert first(of(serverless()), model) == f"{excess} is not supported for serverless endpoints: model m."


@pytest.mark.parametrize("model", [MULTI, SEVERAL, PACKAGE])
def test_async_model_is_simple(model: dict[str, Any]) -> None:
    text = "AsyncInferenceConfig is not supported for multi-model containers"
    assert (first(QUEUED, model) or "").startswith(text)
    assert first(QUEUED) is None


@pytest.mark.parametrize("model", [MULTI, SEVERAL])
def test_shadow_and_its_counterpart_have_simple_models(model: dict[str, Any]) -> None:
    text = "ShadowProductionVariants is not supported for multi-model containers"
    assert (first(SHADOWED, model) or "").startswith(text)
    assert (first(SHADOWED, PLAIN, model) or "").endswith("container: model n.")
    assert first(SHADOWED) is None


@pytest.mark.parametrize(
    ("own", "override", "agree"),
    [
        (PLAIN, PLAIN, True),
        (PLAIN, {"Containers": [{"Image": "j", "ContainerHostname": "ignored"}]}, True),
        (SEVERAL, SEVERAL, True),
        (PLAIN, SEVERAL, False),
        (SEVERAL, {**SEVERAL, "InferenceExecutionConfig": {"Mode": "Direct"}}, False),
        (SEVERAL, {"Containers": [{"ContainerHostname": "a"}, {"ContainerHostname": "b"}]}, False),
        (PLAIN, MULTI, False),
    ],
)
def test_models_of_pools_have_the_same_containers(own: Any, override: Any, *, agree: bool) -> None:
    (rule,) = rules.always_for({"m": own, "n": override})
    assert (rule(of(pooled({"ModelNameOverride": "n"}))) is None) == agree
    assert rule(of(pooled({}))) is None
