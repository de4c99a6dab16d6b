"""What gateways are told of an endpoint: shadows, strategies, capture, and capacity on its way."""

from collections.abc import Mapping
from typing import Any

import pytest

from moorage.control.planning.routes import route_of
from moorage.engine.contract import InstanceReport, InstanceState
from moorage.routing.snapshot import Capture, Endpoint, Instance, Mode, PrefixAware, Strategy
from moorage.state.records import Container, DeployedVariant, EndpointStatus, InstanceRecord, Stage
from moorage.testing.builders import a_deployment, a_report, a_variant, an_endpoint, an_instance

PRODUCTION, SHADOW = a_variant("a"), a_variant("s", shadow=True, desired_weight=0.5)
RECORDS = [an_instance("i-a", "a"), an_instance("i-s", "s")]
READY = {"i-a": a_report("i-a"), "i-s": a_report("i-s")}
CAPTURE = {
    "InitialSamplingPercentage": 20,
    "DestinationS3Uri": "s3://bucket/prefix",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


def routed(
    *variants: DeployedVariant,
    records: list[InstanceRecord] = RECORDS,
    reports: Mapping[str, InstanceReport] = READY,
    status: EndpointStatus = EndpointStatus.IN_SERVICE,
    **changes: Any,
) -> Endpoint:
    route = route_of(an_endpoint(*variants, status=status, **changes), records, reports)
    assert route is not None
    return route


def test_shadow_is_told_apart_from_what_has_a_share_of_the_traffic() -> None:
    route = routed(PRODUCTION, SHADOW)
    ((production,), (shadow,)) = route.variants, route.shadows
    assert (production.name, shadow.name, shadow.weight) == ("a", "s", 0.5)
    assert shadow.instances == (Instance("i-s", "unix:/run/i-s.sock"),)
    assert [instance.instance_id for instance in route.instances] == ["i-a", "i-s"]


def test_new_endpoint_is_routed_to_when_its_shadow_is_ready_too() -> None:
    endpoint = an_endpoint(PRODUCTION, SHADOW, status=EndpointStatus.CREATING)
    starting = {**READY, "i-s": a_report("i-s", InstanceState.STARTING)}
    assert route_of(endpoint, RECORDS, starting) is None
    assert route_of(endpoint, RECORDS, READY) is not None


def test_endpoint_that_serves_is_routed_to_without_its_shadow() -> None:
    route = routed(PRODUCTION, SHADOW, reports={"i-a": READY["i-a"]})
    assert (len(route.variants[0].instances), route.shadows[0].instances) == (1, ())


def test_new_fleet_brings_its_own_shadow_and_the_old_one_s_goes() -> None:
    deployment = a_deployment(a_variant("b"), stage=Stage.SHIFTING)
    route = routed(PRODUCTION, SHADOW, status=EndpointStatus.UPDATING, deployment=deployment)
    assert ([variant.name for variant in route.variants], route.shadows) == (["b"], ())


def test_strategy_is_random_unless_another_is_asked_for() -> None:
    assert (routed(PRODUCTION).variants[0].strategy, routed(PRODUCTION).variants[0].prefix_aware) == (
        Strategy.RANDOM,
        None,
    )


@pytest.mark.parametrize("strategy", [each for each in Strategy if each != Strategy.PREFIX_AWARE])
def test_each_variant_has_the_strategy_that_it_was_given(strategy: Strategy) -> None:
    route = routed(a_variant("a", routing={"RoutingStrategy": str(strategy)}), SHADOW)
    assert (route.variants[0].strategy, route.shadows[0].strategy) == (strategy, Strategy.RANDOM)


def test_prefix_aware_comes_with_its_settings() -> None:
    settings = {"PrefixLength": 2048, "ConcurrencyThreshold": 3}
    routing = {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": settings}
    (variant,) = routed(a_variant("a", routing=routing)).variants
    assert (variant.strategy, variant.prefix_aware) == (Strategy.PREFIX_AWARE, PrefixAware(2048, 3))


def test_capacity_is_on_its_way_while_fewer_are_ready_than_desired() -> None:
    reports = {**READY, "i-b": a_report("i-b", InstanceState.STARTING)}
    records = [*RECORDS, an_instance("i-b", "b")]
    variants = routed(a_variant("a"), a_variant("b"), a_variant("c", 0), records=records, reports=reports).variants
    assert {variant.name: variant.coming for variant in variants} == {"a": False, "b": True, "c": False}


@pytest.mark.parametrize("state", [state for state in InstanceState if state != InstanceState.READY])
def test_what_happens_to_an_instance_before_it_is_ready_makes_no_other_route(state: InstanceState) -> None:
    records = [*RECORDS, an_instance("i-2", "a")]
    missing = routed(a_variant("a", 2))
    unready = routed(a_variant("a", 2), records=records, reports={**READY, "i-2": a_report("i-2", state)})
    assert missing == unready
    assert missing != routed(a_variant("a", 2), records=records, reports={**READY, "i-2": a_report("i-2")})


def test_instance_that_leaves_is_not_missed() -> None:
    records = [*RECORDS, an_instance("i-2", "a", retired_at=1.0)]
    (variant,) = routed(a_variant("a"), records=records, reports={**READY, "i-2": a_report("i-2")}).variants
    assert ([instance.instance_id for instance in variant.instances], variant.coming) == (["i-a"], False)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, None),
        ({**CAPTURE, "EnableCapture": False}, None),
        (CAPTURE, Capture(20.0, "s3://bucket/prefix", inputs=True, outputs=False)),
        (
            {**CAPTURE, "KmsKeyId": "alias/a"},
            Capture(20.0, "s3://bucket/prefix", inputs=True, outputs=False, kms_key="alias/a"),
        ),
        ({**CAPTURE, "EnableCapture": True}, Capture(20.0, "s3://bucket/prefix", inputs=True, outputs=False)),
        ({**CAPTURE, "DestinationS3Uri": "s3://b/"}, Capture(20.0, "s3://b", inputs=True, outputs=False)),
        (
            {**CAPTURE, "CaptureOptions": [{"CaptureMode": "Output"}]},
            Capture(20.0, "s3://bucket/prefix", inputs=False, outputs=True),
        ),
        *(
            (
                {**CAPTURE, "CaptureOptions": [{"CaptureMode": mode} for mode in modes]},
                Capture(20.0, "s3://bucket/prefix", inputs=True, outputs=True),
            )
            for modes in (["InputAndOutput"], ["Input", "Output"], ["Output", "Input", "Input"])
        ),
        (
            {**CAPTURE, "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["a/j"]}},
            Capture(
                20.0, "s3://bucket/prefix", inputs=True, outputs=False, csv_types=("text/csv",), json_types=("a/j",)
            ),
        ),
    ],
)
def test_capture_is_what_was_configured(config: dict[str, Any] | None, expected: Capture | None) -> None:
    assert routed(PRODUCTION, capture=config).capture == expected


@pytest.mark.parametrize(
    ("stage", "percentage"),
    [
        (Stage.LAUNCHING, 20.0),
        (Stage.SHIFTING, 50.0),
        (Stage.BAKING, 50.0),
        (Stage.TERMINATING, 50.0),
        (Stage.ABANDONING, 20.0),
    ],
)
def test_capture_changes_with_the_fleet_that_serves(stage: Stage, percentage: float) -> None:
    deployment = a_deployment(stage=stage, capture={**CAPTURE, "InitialSamplingPercentage": 50})
    route = routed(PRODUCTION, status=EndpointStatus.UPDATING, deployment=deployment, capture=CAPTURE)
    assert route.capture is not None
    assert route.capture.percentage == percentage


@pytest.mark.parametrize("execution", ["Serial", "Direct"])
def test_containers_of_an_instance_are_known_by_their_names(execution: str) -> None:
    several = tuple(Container(name, "image", {}, None) for name in ("x", "y"))
    (variant,) = routed(a_variant("a", containers=several, execution=execution)).variants
    assert (variant.mode, variant.container, variant.containers) == (Mode(execution), "x", ("x", "y"))


def test_single_container_has_no_front_whatever_the_mode_says() -> None:
    (variant,) = routed(a_variant("a", execution="Direct")).variants
    assert (variant.mode, variant.containers) == (Mode.SINGLE, ())
