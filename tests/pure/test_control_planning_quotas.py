"""Quotas of instances, and what is counted for them."""

from collections import Counter

import pytest

from moorage.control.planning.quotas import ALL_INSTANCES, Usage, exceeded, growth, usage_of, usage_of_all
from moorage.state.records import EndpointStatus, Pool
from moorage.testing.builders import a_deployment, a_variant, an_endpoint, an_instance

LARGE, XLARGE = "ml.m5.large", "ml.m5.xlarge"


def a_usage(types: dict[str, int]) -> Usage:
    return Usage(Counter(types), sum(types.values()))


TAIL = (
    "Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, "
    "contact AWS support to request an increase for this quota."
)


def test_no_type_is_limited_that_is_not_named() -> None:
    assert exceeded({}, a_usage({LARGE: 500}), a_usage({LARGE: 500})) is None
    assert exceeded({f"{XLARGE} for endpoint usage": 0}, Usage(), a_usage({LARGE: 1})) is None


def test_all_instances_are_limited_even_where_nothing_is_named() -> None:
    violation = exceeded({}, a_usage({LARGE: 1}), a_usage({XLARGE: 2_000_000_000}))
    assert violation is not None
    assert "'Number of instances across active endpoints' is 1000 Instances" in violation
    assert exceeded({ALL_INSTANCES: 5000}, a_usage({LARGE: 1}), a_usage({XLARGE: 2000})) is None


def test_quota_of_a_type_is_told_in_aws_words() -> None:
    violation = exceeded({f"{LARGE} for endpoint usage": 3}, a_usage({LARGE: 2}), a_usage({LARGE: 2}))
    assert violation == (
        "The account-level service limit 'ml.m5.large for endpoint usage' is 3 Instances, with current utilization of "
        f"2 Instances and a request delta of 2 Instances. {TAIL}"
    )


def test_quota_of_all_instances_counts_all_types() -> None:
    violation = exceeded({ALL_INSTANCES: 5}, a_usage({LARGE: 2, XLARGE: 1}), a_usage({LARGE: 1, XLARGE: 2}))
    assert violation == (
        "The account-level service limit 'Number of instances across active endpoints' is 5 Instances, with current "
        f"utilization of 3 Instances and a request delta of 3 Instances. {TAIL}"
    )


@pytest.mark.parametrize(("limit", "refused"), [(4, False), (3, True)])
def test_quota_can_be_used_up_and_not_exceeded(limit: int, refused: bool) -> None:  # noqa: FBT001 - expected
    violation = exceeded({f"{LARGE} for endpoint usage": limit}, a_usage({LARGE: 2}), a_usage({LARGE: 2}))
    assert (violation is not None) == refused


def test_active_endpoints_count_with_both_fleets_and_their_shadows() -> None:
    endpoints = [
        an_endpoint(a_variant(count=1), a_variant("s", 1, shadow=True), status=EndpointStatus.CREATING),
        an_endpoint(
            a_variant(count=1),
            status=EndpointStatus.UPDATING,
            deployment=a_deployment(a_variant(count=4, instance_type=XLARGE)),
        ),
        an_endpoint(a_variant(count=8), status=EndpointStatus.FAILED),
        an_endpoint(a_variant(count=16), status=EndpointStatus.DELETING),
    ]
    assert usage_of_all(endpoints) == a_usage({LARGE: 3, XLARGE: 4})


def test_growth_counts_what_is_added_and_not_what_is_given_back() -> None:
    before = [a_variant("a", 2), a_variant("b", 3, instance_type=XLARGE)]
    after = [a_variant("a", 5), a_variant("b", 1, instance_type=XLARGE)]
    assert growth(before, after) == Usage(Counter({LARGE: 3}), total=1)
    assert growth(after, after) == Usage()
    assert usage_of(before) == a_usage({LARGE: 2, XLARGE: 3})


POOLED = a_variant(count=3, pools=(Pool(LARGE, "m", a_variant().containers), Pool(XLARGE, "m", a_variant().containers)))


def test_request_for_pools_needs_the_quota_of_each_of_their_types() -> None:
    asked = usage_of([POOLED])
    assert asked == Usage(Counter({LARGE: 3, XLARGE: 3}), total=3)
    assert exceeded({f"{XLARGE} for endpoint usage": 2, ALL_INSTANCES: 3}, Usage(), asked) is not None
    assert exceeded({ALL_INSTANCES: 3}, Usage(), asked) is None


def test_instances_of_pools_are_used_as_what_they_are() -> None:
    endpoint = an_endpoint(POOLED, status=EndpointStatus.IN_SERVICE)
    recorded = [
        an_instance("i-1", instance_type=XLARGE),
        an_instance("i-2", instance_type=XLARGE, retired_at=1.0),
        an_instance("i-3", waits_for=(LARGE, XLARGE)),
        an_instance("i-4", instance_type=XLARGE, endpoint="other"),
    ]
    assert usage_of_all([endpoint], recorded) == a_usage({XLARGE: 1, LARGE: 2})
