"""Rules for CreateEndpointConfig (control-plane.md section 5.2 and the conflict matrix of Appendix B).

Here stand those about the configuration as a whole; those about one variant, its instances, the explainer and the
models stand in modules of their own. What the matrix leaves open is refused, as it proposes, except where
explainer.md section 4.7 decides.
"""

from moorage.control.rules import Members, explainer, instances, tags, variants
from moorage.control.rules.not_built import refusal
from moorage.control.rules.variants import hosts_components, is_serverless, types_of, variants_of

_FREQUENCIES_SECONDS = (10, 30, 60, 120, 180, 240, 300)

_NOT_WITH_SERVERLESS = (
    "ShadowProductionVariants",
    "AsyncInferenceConfig",
    "DataCaptureConfig",
    "CrossRegionTrafficConfig",
)
_NOT_WITH_ASYNC = ("ShadowProductionVariants", "ExplainerConfig", "CrossRegionTrafficConfig")
_NOT_WITH_COMPONENTS = ("ShadowProductionVariants", "AsyncInferenceConfig", "DataCaptureConfig", "ExplainerConfig")

_VARIANT = {
    "VariantName": ...,
    "ModelName": ...,
    "InitialInstanceCount": ...,
    "InstanceType": ...,
    "InitialVariantWeight": ...,
    "RoutingConfig": ...,
    "CoreDumpConfig": {"DestinationS3Uri": ..., "KmsKeyId": ...},
    "VolumeSizeInGB": ...,
    "ModelDataDownloadTimeoutInSeconds": ...,
    "ContainerStartupHealthCheckTimeoutInSeconds": ...,
    "EnableSSMAccess": ...,
    "InferenceAmiVersion": ...,
    "InstancePools": {"InstanceType": ..., "Priority": ..., "ModelNameOverride": ...},
    "VariantInstanceProvisionTimeoutInSeconds": ...,
    "CapacityReservationConfig": ...,
}
_BUILT = {
    "EndpointConfigName": ...,
    "ProductionVariants": _VARIANT,
    "ShadowProductionVariants": _VARIANT,
    "DataCaptureConfig": {
        "EnableCapture": ...,
        "InitialSamplingPercentage": ...,
        "DestinationS3Uri": ...,
        "CaptureOptions": ...,
        "CaptureContentTypeHeader": ...,
        "KmsKeyId": ...,
    },
    "KmsKeyId": ...,
    "EnableNetworkIsolation": ...,
    "Tags": ...,
}


def _first_given(request: Members, names: tuple[str, ...]) -> str | None:
    """Give the first of some members that asks for something; an empty one does not."""
    return next((name for name in names if request.get(name)), None)


def shadow_has_one_counterpart(request: Members) -> str | None:
    """Refuse a shadow variant beside several production variants, and several shadows (rule 2)."""
    shadows = request.get("ShadowProductionVariants")
    if shadows and (len(request["ProductionVariants"]), len(shadows)) != (1, 1):
        return (
            "ShadowProductionVariants requires exactly one variant in ProductionVariants "
            "and can have only one variant itself."
        )
    return None


def serverless_is_plain(request: Members) -> str | None:
    """Refuse features that serverless endpoints do not have (rules 3, 5, 15 and 16)."""
    excess = _first_given(request, _NOT_WITH_SERVERLESS)
    if excess is not None and any(is_serverless(variant) for variant in variants_of(request)):
        return f"{excess} is not supported for serverless endpoints."
    return None


def async_is_plain(request: Members) -> str | None:
    """Refuse features that asynchronous endpoints do not have (rules 3 and 16)."""
    excess = _first_given(request, _NOT_WITH_ASYNC)
    if excess is not None and "AsyncInferenceConfig" in request:
        return f"{excess} cannot be specified together with AsyncInferenceConfig."
    return None


def async_has_one_variant(request: Members) -> str | None:
    """Refuse several variants behind one queue (rule 16)."""
    if "AsyncInferenceConfig" in request and len(request["ProductionVariants"]) > 1:
        return "AsyncInferenceConfig requires exactly one variant in ProductionVariants."
    return None


def async_runs_elsewhere_than_on_inferentia(request: Members) -> str | None:
    """Refuse asynchronous endpoints on the first Inferentia (rule 16)."""
    if "AsyncInferenceConfig" not in request:
        return None
    types = (name for variant in variants_of(request) for name in types_of(variant))
    inferentia = next((name for name in types if name.startswith("ml.inf1.")), None)
    return None if inferentia is None else f"AsyncInferenceConfig is not supported for the instance type {inferentia}."


def managed_scaling_is_real_time(request: Members) -> str | None:
    """Refuse instances that follow their components beside what is not for components, in AWS's words (rule 9)."""
    scaled = any("ManagedInstanceScaling" in variant for variant in variants_of(request))
    if scaled and _first_given(request, _NOT_WITH_COMPONENTS):
        return "ManagedInstanceScaling is not supported with the given EndpointConfig setup."
    return None


def component_hosts_are_plain(request: Members) -> str | None:
    """Refuse features that are for variants with a model (conflict matrix)."""
    excess = _first_given(request, _NOT_WITH_COMPONENTS)
    if excess is not None and any(hosts_components(variant) for variant in variants_of(request)):
        return f"{excess} is not supported for inference component endpoints."
    return None


def component_hosts_have_a_role(request: Members) -> str | None:
    """Refuse variants without a model when nobody says in whose name components are fetched (variant kinds)."""
    if "ExecutionRoleArn" not in request and any(hosts_components(variant) for variant in variants_of(request)):
        return "ExecutionRoleArn is required for variants without ModelName."
    return None


def capture_goes_to_a_bucket(request: Members) -> str | None:
    """Refuse to capture into web addresses, which the model's pattern allows; nobody asks whether a bucket exists."""
    destination = request.get("DataCaptureConfig", {}).get("DestinationS3Uri")
    if destination is not None and not destination.startswith("s3://"):
        return f"DestinationS3Uri of DataCaptureConfig must be of the form s3://bucket/prefix: {destination}"
    return None


def frequency_is_known(request: Members) -> str | None:
    """Refuse a frequency of metrics that is none of the seven (rule 18)."""
    frequency = request.get("MetricsConfig", {}).get("MetricPublishFrequencyInSeconds")
    if frequency is not None and frequency not in _FREQUENCIES_SECONDS:
        return "MetricPublishFrequencyInSeconds must be one of 10, 30, 60, 120, 180, 240 and 300."
    return None


def only_what_is_built(request: Members) -> str | None:
    """Refuse what Moorage does not do yet, by name."""
    return refusal(request, _BUILT)


RULES = (
    *variants.RULES,
    shadow_has_one_counterpart,
    serverless_is_plain,
    async_is_plain,
    async_has_one_variant,
    async_runs_elsewhere_than_on_inferentia,
    managed_scaling_is_real_time,
    component_hosts_are_plain,
    component_hosts_have_a_role,
    *instances.RULES,
    *explainer.RULES,
    capture_goes_to_a_bucket,
    frequency_is_known,
    *tags.RULES,
)
"""Those that need only the request. Then come the names that it refers to, then what is not built."""
