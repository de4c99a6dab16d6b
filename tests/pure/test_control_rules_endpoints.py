"""Rules for endpoints and tags, each by itself."""

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
    refusal = "DeploymentConfig is not supported by Moorage yet."
    assert endpoints.only_what_create_builds(create) == refusal
    update = {"DesiredWeightsAndCapacities": [{"VariantName": "a", "ServerlessUpdateConfig": {"MaxConcurrency": 1}}]}
    refusal = "DesiredWeightsAndCapacities.1.ServerlessUpdateConfig is not supported by Moorage yet."
    assert endpoints.only_what_weights_build(update) == refusal


def test_tags_have_unique_keys_that_are_not_of_aws() -> None:
    twice = {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    assert tags.keys_are_unique(twice) is not None
    assert tags.keys_are_unique({"Tags": twice["Tags"][:1]}) is None
    assert tags.keys_are_not_reserved({"Tags": [{"Key": "AWS:x", "Value": ""}]}) is not None
    assert tags.keys_are_not_reserved({}) is None


def test_resource_has_at_most_fifty_tags() -> None:
    assert tags.too_many({str(number): "" for number in range(50)}) is None
    assert tags.too_many({str(number): "" for number in range(51)}) is not None
