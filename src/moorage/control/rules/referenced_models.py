"""Rules of CreateEndpointConfig about the models that it refers to (control-plane.md section 5.2).

They need what CreateModel was given, by the model's name: all of them exist (rule 21).
"""

from collections.abc import Iterator, Mapping
from functools import partial

from moorage.control.rules import Members, Rule
from moorage.control.rules.models import containers_of, execution_of, name_of
from moorage.control.rules.variants import is_serverless, models_of, variants_of

Models = Mapping[str, Members]
"""By name, the members of the CreateModel request."""


def _used(request: Members, models: Models) -> Iterator[tuple[str, Members]]:
    return ((name, models[name]) for name in models_of(request))


def _holds_several(model: Members) -> bool:
    """Say whether a model is a pipeline or has containers that are invoked directly."""
    return len(containers_of(model)) > 1


def _is_multi_model(model: Members) -> bool:
    return any(container.get("Mode") == "MultiModel" for container in containers_of(model))


def _is_package(model: Members) -> bool:
    return any("ModelPackageName" in container for container in containers_of(model))


def _is_serverless(request: Members) -> bool:
    return any(is_serverless(variant) for variant in variants_of(request))


def serverless_model_has_no_source(models: Models, request: Members) -> str | None:
    """Refuse ModelDataSource in a serverless variant; the beginning of the text is AWS's (section 3.3)."""
    if not _is_serverless(request):
        return None
    for name, model in _used(request, models):
        if any("ModelDataSource" in c and "ModelDataUrl" not in c for c in containers_of(model)):
            return f"Model with containers that use ModelDataSource is not supported for serverless endpoints: {name}."
    return None


def serverless_model_is_simple(models: Models, request: Members) -> str | None:
    """Refuse what a serverless variant's model cannot have (rule 5)."""
    if not _is_serverless(request):
        return None
    for name, model in _used(request, models):
        if excess := next(_beyond_serverless(model), None):
            return f"{excess} is not supported for serverless endpoints: model {name}."
    return None


def _beyond_serverless(model: Members) -> Iterator[str]:
    if "VpcConfig" in model:
        yield "A model with VpcConfig"
    if model.get("EnableNetworkIsolation"):
        yield "A model with EnableNetworkIsolation"
    if _is_multi_model(model):
        yield "A multi-model container"
    if _holds_several(model):
        yield "A model with more than one container"
    if _is_package(model):
        yield "A model package"
    if any(c.get("ImageConfig", {}).get("RepositoryAccessMode") == "Vpc" for c in containers_of(model)):
        yield "An image of a private registry"


def async_model_is_simple(models: Models, request: Members) -> str | None:
    """Refuse multi-model, several containers and packages behind asynchronous endpoints (rule 16)."""
    if "AsyncInferenceConfig" not in request:
        return None
    for name, model in _used(request, models):
        if _is_multi_model(model) or _holds_several(model) or _is_package(model):
            return (
                "AsyncInferenceConfig is not supported for multi-model containers, models with more than one "
                f"container and model packages: model {name}."
            )
    return None


def shadowed_models_are_simple(models: Models, request: Members) -> str | None:
    """Refuse multi-model and several containers beside and as a shadow variant (rule 3)."""
    if not request.get("ShadowProductionVariants"):
        return None
    for name, model in _used(request, models):
        if _is_multi_model(model) or _holds_several(model):
            return (
                "ShadowProductionVariants is not supported for multi-model containers and models with more than one "
                f"container: model {name}."
            )
    return None


def pools_agree(models: Models, request: Members) -> str | None:
    """Refuse a pool whose model has other containers than the variant's own: callers would get now these, now those."""
    for variant in variants_of(request):
        for pool in variant.get("InstancePools", ()):
            override = pool.get("ModelNameOverride")
            if override is not None and _shape_of(models[override]) != _shape_of(models[variant["ModelName"]]):
                return (
                    f"ModelNameOverride {override} must have the same containers (number, ContainerHostname, Mode) and "
                    f"InferenceExecutionConfig as the model {variant['ModelName']} of its variant."
                )
    return None


def _shape_of(model: Members) -> tuple[str, list[tuple[str, str]]]:
    """Give what those who invoke a model see of its containers."""
    given = containers_of(model)
    execution = execution_of(model) if len(given) > 1 else "Serial"
    return execution, [(name_of(given, at), c.get("Mode", "SingleModel")) for at, c in enumerate(given)]


_RULES = (
    serverless_model_has_no_source,
    serverless_model_is_simple,
    async_model_is_simple,
    shadowed_models_are_simple,
)


def always_for(models: Models) -> tuple[Rule, ...]:
    """Give those that must still hold when an endpoint is deployed: a model may have been made anew since."""
    return (partial(pools_agree, models),)


def rules_for(models: Models) -> tuple[Rule, ...]:
    """Give the rules as rules of the request."""
    return tuple(partial(rule, models) for rule in _RULES)
