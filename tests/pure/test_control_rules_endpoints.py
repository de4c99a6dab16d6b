"""Rules for endpoints and tags, each by itself."""

from typing import Any

import pytest
from tests.support import configs

from moorage.control.rules import endpoints, tags
from moorage.state.records import EndpointStatus
from moorage.testing.builders import a_variant, an_endpoint

ENDPOINT = an_endpoint(a_variant("a"), a_variant("b"), status=EndpointStatus.IN_SERVICE)


def asked(*names: str) -> dict[str, object]:
    return {"DesiredWeightsAndCapacities": [{"VariantName": name} for name in names]}


def test_variants_are_named_once_and_known_in_the_order_of_the_request() -> None:
    assert endpoints.variants_are_known(asked("a", "b"), ENDPOINT) is None
    twice = 'The variant name "a" was non-unique within the request.'
    assert endpoints.variants_are_known(asked("a", "a", "x"), ENDPOINT) == twice
    unknown = 'The variant name(s) "x" is/are not present within endpoint configuration "config".'
    assert endpoints.variants_are_known(asked("x", "a", "a"), ENDPOINT) == unknown


def test_real_time_variant_keeps_an_instance() -> None:
    none = {"DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredInstanceCount": 0}]}
    assert endpoints.capacity_is_not_zero(none) is not None
    assert endpoints.capacity_is_not_zero(asked("a")) is None


def test_what_is_not_built_is_refused_by_name() -> None:
    create = {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": {"AutoRollbackConfiguration": {}}}
    refusal = "DeploymentConfig.AutoRollbackConfiguration is not supported by Moorage yet."
    assert endpoints.only_what_create_builds(create) == refusal
    update = {"DesiredWeightsAndCapacities": [{"VariantName": "a", "Newer": {"MaxConcurrency": 1}}]}
    refusal = "DesiredWeightsAndCapacities.1.Newer is not supported by Moorage yet."
    assert endpoints.only_what_weights_build(update) == refusal

    again: dict[str, Any] = {"DeploymentConfig": {"RollingUpdatePolicy": {}}}
    refusal = "DeploymentConfig.RollingUpdatePolicy is not supported by Moorage yet."
    assert endpoints.only_what_update_builds(again) == refusal


def test_deployment_configuration_is_new_or_kept() -> None:
    both = {"RetainDeploymentConfig": True, "DeploymentConfig": {}}
    text = "DeploymentConfig cannot be specified when RetainDeploymentConfig is true."
    assert endpoints.one_deployment_config(both) == text
    assert endpoints.one_deployment_config({**both, "RetainDeploymentConfig": False}) is None
    assert endpoints.one_deployment_config({"RetainDeploymentConfig": True}) is None


def test_exclusions_are_from_what_is_retained() -> None:
    excluded = {"ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}]}
    text = "ExcludeRetainedVariantProperties can only be specified when RetainAllVariantProperties is true."
    assert endpoints.exclusions_are_from_what_is_retained(excluded) == text
    assert endpoints.exclusions_are_from_what_is_retained({**excluded, "RetainAllVariantProperties": True}) is None
    assert endpoints.exclusions_are_from_what_is_retained({"ExcludeRetainedVariantProperties": []}) is None


def test_data_capture_cannot_be_excluded() -> None:
    text = "The variant property type DataCaptureConfig is not supported in ExcludeRetainedVariantProperties."
    excluded = [{"VariantPropertyType": "DesiredWeight"}, {"VariantPropertyType": "DataCaptureConfig"}]
    assert endpoints.capture_is_never_retained({"ExcludeRetainedVariantProperties": excluded}) == text
    assert endpoints.capture_is_never_retained({"ExcludeRetainedVariantProperties": excluded[:1]}) is None


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        (configs.variant(), configs.variant("w"), True),
        (configs.serverless(), configs.variant(), True),
        (configs.serverless(), configs.serverless(), True),
        (configs.host(), configs.host(), True),
        (configs.variant(), configs.serverless(), False),
        (configs.variant(), configs.host(), False),
        (configs.host(), configs.variant(), False),
    ],
)
def test_kind_of_an_endpoint_changes_one_way(before: Any, after: Any, *, allowed: bool) -> None:
    assert (endpoints.kind_can_change([before], [after]) is None) == allowed


def test_steps_fit_the_new_fleet() -> None:
    size = {"Type": "INSTANCE_COUNT", "Value": 2}
    traffic = {"Type": "CANARY", "WaitIntervalInSeconds": 0, "CanarySize": size}
    request = {"DeploymentConfig": {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic}}}
    text = "CanarySize must be at most 50 percent of the variant's instances, of which there are 2."
    assert endpoints.steps_fit(request, [4, 2]) == text
    assert endpoints.steps_fit(request, [4]) is None
    assert endpoints.steps_fit({}, [1]) is None


def test_concurrency_is_of_serverless_variants() -> None:
    update = {"DesiredWeightsAndCapacities": [{"VariantName": "a"}, {"VariantName": "b", "ServerlessUpdateConfig": {}}]}
    text = "ServerlessUpdateConfig can only be specified for a serverless variant: b."
    assert endpoints.concurrency_is_for_serverless(update) == text
    assert endpoints.concurrency_is_for_serverless(asked("a")) is None


def test_provisioned_concurrency_is_within_the_allowed() -> None:
    def asked(**config: int) -> dict[str, Any]:
        return {"DesiredWeightsAndCapacities": [{"VariantName": "a", "ServerlessUpdateConfig": config}]}

    text = "ProvisionedConcurrency must not be greater than MaxConcurrency: variant a."
    assert endpoints.concurrency_fits(asked(MaxConcurrency=1, ProvisionedConcurrency=2)) == text
    assert endpoints.concurrency_fits(asked(MaxConcurrency=2, ProvisionedConcurrency=2)) is None
    assert endpoints.concurrency_fits(asked(ProvisionedConcurrency=2)) is None


def test_tags_have_unique_keys_that_are_not_of_aws() -> None:
    twice = {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    assert tags.keys_are_unique(twice) is not None
    assert tags.keys_are_unique({"Tags": twice["Tags"][:1]}) is None
    assert tags.keys_are_not_reserved({"Tags": [{"Key": "AWS:x", "Value": ""}]}) is not None
    assert tags.keys_are_not_reserved({}) is None


def test_resource_has_at_most_fifty_tags() -> None:
    assert tags.too_many({str(number): "" for number in range(50)}) is None
    assert tags.too_many({str(number): "" for number in range(51)}) is not None
