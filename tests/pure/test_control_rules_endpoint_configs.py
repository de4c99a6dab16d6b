"""Rules for CreateEndpointConfig as a whole, each by itself, the conflict matrix, and what is not built."""

from typing import Any

import pytest
from tests.support.configs import explained, host, of, pooled, serverless, variant

from moorage.control.rules import Rule, explainer, instances, tags, variants
from moorage.control.rules import endpoint_configs as rules

SHADOW = [variant("s")]

CASES: list[tuple[Rule, dict[str, Any], str | None]] = [
    (rules.shadow_has_one_counterpart, of(ShadowProductionVariants=SHADOW), None),
    (rules.shadow_has_one_counterpart, of(variant("a"), variant("b")), None),
    *(
        (
            rules.shadow_has_one_counterpart,
            request,
            (
                "ShadowProductionVariants requires exactly one variant in ProductionVariants "
                "and can have only one variant itself."
            ),
        )
        for request in (
            of(variant("a"), variant("b"), ShadowProductionVariants=SHADOW),
            of(ShadowProductionVariants=[variant("s"), variant("t")]),
        )
    ),
    (rules.serverless_is_plain, of(serverless(), KmsKeyId="k", ShadowProductionVariants=[]), None),
    *(
        (rules.serverless_is_plain, of(serverless(), **{member: value}), text)
        for member, value, text in (
            ("DataCaptureConfig", {"x": 1}, "DataCaptureConfig is not supported for serverless endpoints."),
            ("AsyncInferenceConfig", {"x": 1}, "AsyncInferenceConfig is not supported for serverless endpoints."),
            ("ShadowProductionVariants", SHADOW, "ShadowProductionVariants is not supported for serverless endpoints."),
            (
                "CrossRegionTrafficConfig",
                {"x": 1},
                "CrossRegionTrafficConfig is not supported for serverless endpoints.",
            ),
        )
    ),
    (rules.async_is_plain, of(AsyncInferenceConfig={}, DataCaptureConfig={"x": 1}), None),
    *(
        (
            rules.async_is_plain,
            of(AsyncInferenceConfig={}, **{member: [variant("s")]}),
            f"{member} cannot be specified together with AsyncInferenceConfig.",
        )
        for member in ("ShadowProductionVariants", "ExplainerConfig", "CrossRegionTrafficConfig")
    ),
    (rules.async_has_one_variant, of(AsyncInferenceConfig={}), None),
    (
        rules.async_has_one_variant,
        of(variant("a"), variant("b"), AsyncInferenceConfig={}),
        "AsyncInferenceConfig requires exactly one variant in ProductionVariants.",
    ),
    (rules.async_runs_elsewhere_than_on_inferentia, of(AsyncInferenceConfig={}), None),
    (rules.async_runs_elsewhere_than_on_inferentia, of(variant(InstanceType="ml.inf1.xlarge")), None),
    (
        rules.async_runs_elsewhere_than_on_inferentia,
        of(pooled({}, {"InstanceType": "ml.inf1.xlarge"}), AsyncInferenceConfig={}),
        "AsyncInferenceConfig is not supported for the instance type ml.inf1.xlarge.",
    ),
    (rules.managed_scaling_is_real_time, of(host(ManagedInstanceScaling={})), None),
    (
        rules.managed_scaling_is_real_time,
        of(host(ManagedInstanceScaling={}), AsyncInferenceConfig={"x": 1}),
        "ManagedInstanceScaling is not supported with the given EndpointConfig setup.",
    ),
    (rules.component_hosts_are_plain, of(host()), None),
    *(
        (
            rules.component_hosts_are_plain,
            of(host(), **{member: {"x": 1}}),
            f"{member} is not supported for inference component endpoints.",
        )
        for member in ("AsyncInferenceConfig", "DataCaptureConfig", "ExplainerConfig")
    ),
    (rules.component_hosts_have_a_role, of(host(), ExecutionRoleArn="r"), None),
    (rules.component_hosts_have_a_role, of(host()), "ExecutionRoleArn is required for variants without ModelName."),
    (rules.capture_goes_to_a_bucket, of(), None),
    (rules.capture_goes_to_a_bucket, of(DataCaptureConfig={"DestinationS3Uri": "s3://no-such-bucket/p"}), None),
    (
        rules.capture_goes_to_a_bucket,
        of(DataCaptureConfig={"DestinationS3Uri": "https://example.com/p"}),
        "DestinationS3Uri of DataCaptureConfig must be of the form s3://bucket/prefix: https://example.com/p",
    ),
    (rules.frequency_is_known, of(MetricsConfig={}), None),
    (rules.frequency_is_known, of(MetricsConfig={"MetricPublishFrequencyInSeconds": 240}), None),
    (
        rules.frequency_is_known,
        of(MetricsConfig={"MetricPublishFrequencyInSeconds": 61}),
        "MetricPublishFrequencyInSeconds must be one of 10, 30, 60, 120, 180, 240 and 300.",
    ),
]


@pytest.mark.parametrize(("rule", "request_", "text"), CASES)
def test_rule(rule: Rule, request_: dict[str, Any], text: str | None) -> None:
    assert rule(request_) == text


def test_every_rule_is_kept_by_one_case_and_broken_by_another() -> None:
    kept = {rule for rule, _, text in CASES if text is None}
    broken = {rule for rule, _, text in CASES if text is not None}
    of_others = {*variants.RULES, *instances.RULES, *explainer.RULES, *tags.RULES}
    assert kept == broken == set(rules.RULES) - of_others


CAPTURE: dict[str, Any] = {
    "DataCaptureConfig": {
        "EnableCapture": True,
        "InitialSamplingPercentage": 1,
        "DestinationS3Uri": "s3://b/p",
        "CaptureOptions": [{"CaptureMode": "Input"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    }
}
QUEUE: dict[str, Any] = {"AsyncInferenceConfig": {"OutputConfig": {}}}
EXPLAINER = {"ExplainerConfig": explained(ShapBaseline="1")["ExplainerConfig"]}
SHADOWED = {"ShadowProductionVariants": SHADOW}
ROLE = {"ExecutionRoleArn": "r"}
DISKS = variant(InstanceType="ml.m5d.large")


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (of(serverless()), False),
        (of(serverless(), **QUEUE), True),
        (of(serverless(), **SHADOWED), True),
        (of(serverless(), **CAPTURE), True),
        (of(serverless(), **EXPLAINER), False),
        (of(serverless(), variant("w")), True),
        (of(serverless(), KmsKeyId="k"), False),
        (of(**QUEUE), False),
        (of(**QUEUE, **SHADOWED), True),
        (of(**QUEUE, **CAPTURE), False),
        (of(**QUEUE, **EXPLAINER), True),
        (of(host(), **QUEUE, **ROLE), True),
        (of(DISKS, **QUEUE, KmsKeyId="k"), True),
        (of(**SHADOWED), False),
        (of(**SHADOWED, **CAPTURE), False),
        (of(**SHADOWED, **EXPLAINER), False),
        (of(host(), ShadowProductionVariants=[host("s")], **ROLE), True),
        (of(**EXPLAINER, **CAPTURE), False),
        (of(host(), **EXPLAINER, **ROLE), True),
        (of(host(), **CAPTURE, **ROLE), True),
        (of(host(), **ROLE), False),
        (of(host(ManagedInstanceScaling={}), **ROLE), False),
        (of({**serverless(), "ManagedInstanceScaling": {}}), True),
        (of(host(ManagedInstanceScaling={}), **QUEUE, **ROLE), True),
        (of(variant("a"), variant("b"), **QUEUE), True),
        (of(variant("a"), variant("b"), **SHADOWED), True),
        (of(variant("a"), variant("b"), **CAPTURE), False),
        (of(variant("a"), variant("b"), **EXPLAINER), False),
        (of(host("a"), host("b"), **ROLE), False),
    ],
)
def test_conflict_matrix(request_: dict[str, Any], *, refused: bool) -> None:
    assert any(rule(request_) is not None for rule in rules.RULES) == refused


@pytest.mark.parametrize(
    "member",
    [
        "ServerlessConfig",
        "ManagedInstanceScaling",
        "AcceleratorPartitionLayouts",
    ],
)
def test_member_of_a_variant_that_is_not_built_is_refused_by_name(member: str) -> None:
    request = of(variant("a"), variant("b", **{member: 1}))
    assert rules.only_what_is_built(request) == f"ProductionVariants.2.{member} is not supported by Moorage yet."
    shadowed = of(ShadowProductionVariants=[variant("s", **{member: 1})])
    assert rules.only_what_is_built(shadowed) == f"ShadowProductionVariants.1.{member} is not supported by Moorage yet."


@pytest.mark.parametrize(
    "member",
    [
        "AsyncInferenceConfig",
        "ExplainerConfig",
        "ExecutionRoleArn",
        "VpcConfig",
        "MetricsConfig",
        "CrossRegionTrafficConfig",
    ],
)
def test_member_that_is_not_built_is_refused_by_name(member: str) -> None:
    assert rules.only_what_is_built(of(**{member: {"x": 1}})) == f"{member} is not supported by Moorage yet."


def test_promises_of_instances_are_built() -> None:
    promises = variant(
        CoreDumpConfig={"DestinationS3Uri": "s3://cores", "KmsKeyId": "k"},
        VolumeSizeInGB=16,
        ModelDataDownloadTimeoutInSeconds=60,
        ContainerStartupHealthCheckTimeoutInSeconds=60,
        EnableSSMAccess=True,
        InferenceAmiVersion="al2-ami-sagemaker-inference-gpu-2",
    )
    assert rules.only_what_is_built(of(promises, KmsKeyId="k", EnableNetworkIsolation=True)) is None


def test_empty_lists_ask_for_nothing() -> None:
    assert rules.only_what_is_built(of(ShadowProductionVariants=[], Tags=[])) is None


def test_data_capture_is_built_with_its_key() -> None:
    request = of(DataCaptureConfig={**CAPTURE["DataCaptureConfig"], "KmsKeyId": "k"})
    assert rules.only_what_is_built(request) is None
    assert rules.only_what_is_built(of(**CAPTURE)) is None


def test_shadow_variants_and_strategies_are_built() -> None:
    settings = {"PrefixLength": 1024, "ConcurrencyThreshold": 1}
    routing = {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": settings}
    request = of(variant("a", RoutingConfig=routing), ShadowProductionVariants=[variant("s", RoutingConfig=routing)])
    assert rules.only_what_is_built(request) is None
