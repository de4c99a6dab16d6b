"""One pass of the plan: records and observations in, the complete plan out. Whatever is not named is nothing."""

import pytest

from moorage.control.planning.endpoint import Plan, plan
from moorage.control.planning.failures import NO_CAPACITY
from moorage.control.planning.fleets import ADDED_AT_ONCE, Place
from moorage.control.planning.observed import Observed, Patience
from moorage.control.planning.routes import route_of
from moorage.engine.contract import Failure, InstanceReport, InstanceState
from moorage.state.records import EndpointRecord, EndpointStatus, InstanceRecord
from moorage.testing.builders import a_report, a_variant, an_endpoint, an_instance

NOW = 100.0
PATIENCE = Patience(drain_seconds=20.0, capacity_seconds=600.0, download_seconds=300.0, startup_seconds=100.0)
LATEST = PATIENCE.change_seconds(a_variant())


def seen(
    *reports: InstanceReport, endpoint: EndpointRecord | None = None, records: tuple[InstanceRecord, ...] = ()
) -> Observed:
    """Observe reports; with an endpoint, its route is published and in force."""
    by_id = {report.instance_id: report for report in reports}
    route = route_of(endpoint, records, by_id) if endpoint is not None else None
    return Observed(reports=by_id, route=route)


def test_new_endpoint_gets_its_instances() -> None:
    endpoint = an_endpoint(a_variant("a", 2), a_variant("b", 1), status=EndpointStatus.CREATING)
    assert plan(endpoint, [], seen(), NOW, PATIENCE) == Plan(
        endpoint, add=(Place("a", 0), Place("a", 0), Place("b", 0)), wake_at=LATEST
    )


def test_large_fleet_is_added_in_several_passes() -> None:
    endpoint = an_endpoint(a_variant("a", 2_000_000_000), status=EndpointStatus.CREATING)
    made = plan(endpoint, [], seen(), NOW, PATIENCE)
    assert made == Plan(endpoint, add=(Place("a", 0),) * ADDED_AT_ONCE, wake_at=NOW)


def test_recorded_instance_that_nobody_knows_is_launched() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    record = an_instance("i-1")
    assert plan(endpoint, [record], seen(), NOW, PATIENCE) == Plan(endpoint, launch=(record,), wake_at=LATEST)


def test_starting_instance_is_waited_for() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    observed = seen(a_report("i-1", InstanceState.STARTING))
    assert plan(endpoint, [an_instance("i-1")], observed, NOW, PATIENCE) == Plan(endpoint, wake_at=LATEST)


def test_ready_endpoint_is_published_before_it_is_in_service() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    records = (an_instance("i-1"),)
    made = plan(endpoint, records, seen(a_report("i-1")), NOW, PATIENCE)
    route = route_of(endpoint, records, {"i-1": a_report("i-1")})
    assert made == Plan(endpoint, route=route, wake_at=LATEST)
    assert route is not None


def test_published_endpoint_comes_into_service_when_its_route_is_in_force() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    records = (an_instance("i-1"),)
    observed = seen(a_report("i-1"), endpoint=endpoint, records=records)
    made = plan(endpoint, records, observed, NOW, PATIENCE)
    assert made.endpoint is not None
    assert (made.endpoint.status, made.endpoint.modified_at) == (EndpointStatus.IN_SERVICE, NOW)
    waiting = Observed(observed.reports, observed.route, route_in_force=False)
    assert plan(endpoint, records, waiting, NOW, PATIENCE).endpoint == endpoint


def test_settled_endpoint_needs_nothing() -> None:
    endpoint = an_endpoint(status=EndpointStatus.IN_SERVICE)
    records = (an_instance("i-1"),)
    observed = seen(a_report("i-1"), endpoint=endpoint, records=records)
    assert plan(endpoint, records, observed, NOW, PATIENCE) == Plan(endpoint, route=observed.route)


def test_images_are_noted_once_an_instance_tells() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    report = a_report("i-1", resolved_images=("repo@sha256:1",), since=7.0)
    made = plan(endpoint, [an_instance("i-1")], seen(report), NOW, PATIENCE)
    assert made.endpoint is not None
    (container,) = made.endpoint.variants[0].containers
    assert (container.resolved_image, container.resolved_at) == ("repo@sha256:1", 7.0)


def test_what_runs_in_an_images_place_is_told_once() -> None:
    endpoint = an_endpoint(a_variant(count=2), status=EndpointStatus.CREATING)
    reports = [
        a_report(name, resolved_images=("repo@sha256:1",), stand_ins=("It is older.",)) for name in ("i-1", "i-2")
    ]
    records = [an_instance("i-1"), an_instance("i-2")]
    made = plan(endpoint, records, seen(*reports), NOW, PATIENCE)
    assert made.notices == ("The variant AllTraffic: It is older.",)
    assert made.endpoint is not None
    assert not plan(made.endpoint, records, seen(*reports), NOW, PATIENCE).notices


def test_what_runs_in_an_images_place_is_told_also_when_it_fails_at_once() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    report = a_report("i-1", InstanceState.FAILED, resolved_images=("repo@sha256:1",), stand_ins=("It is older.",))
    assert plan(endpoint, [an_instance("i-1")], seen(report), NOW, PATIENCE).notices == (
        "The variant AllTraffic: It is older.",
    )


def test_first_lost_instance_is_replaced_at_once() -> None:
    endpoint = an_endpoint(a_variant(count=2), status=EndpointStatus.IN_SERVICE)
    records = (an_instance("i-1"), an_instance("i-2"))
    made = plan(endpoint, records, seen(a_report("i-1", InstanceState.EXITED), a_report("i-2")), NOW, PATIENCE)
    assert (made.add, made.forget, made.retire, made.stop) == ((Place("AllTraffic", 0),), ("i-1",), (), ())
    assert made.endpoint is not None
    assert (made.endpoint.status, made.endpoint.variants[0].setbacks) == (EndpointStatus.IN_SERVICE, 1)
    assert made.route is not None
    assert [instance.instance_id for instance in made.route.variants[0].instances] == ["i-2"]


def test_further_losses_are_replaced_later_and_later() -> None:
    delays = [PATIENCE.delay_after(setbacks) for setbacks in range(1, 12)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    variant = a_variant(setbacks=3)
    endpoint = an_endpoint(variant, status=EndpointStatus.IN_SERVICE)
    observed = seen(a_report("i-1", InstanceState.EXITED))
    made = plan(endpoint, [an_instance("i-1")], observed, NOW, PATIENCE)
    # Its room is kept for it: it is recorded at once, and launched when it is time.
    assert (made.add, made.launch) == ((Place("AllTraffic", 0),), ())
    assert made.endpoint is not None
    after, record = made.endpoint, an_instance("i-2")
    early = plan(after, [record], seen(), NOW + 1.9, PATIENCE)
    assert (early.launch, early.wake_at) == ((), NOW + 2.0)
    assert plan(after, [record], seen(), NOW + 2.0, PATIENCE).launch == (record,)


def test_losses_are_forgiven_after_a_calm_time() -> None:
    endpoint = an_endpoint(a_variant(setbacks=3), status=EndpointStatus.IN_SERVICE)
    records = (an_instance("i-1"),)
    early = plan(endpoint, records, seen(a_report("i-1", since=NOW - 10.0)), NOW, PATIENCE)
    assert early.wake_at == NOW + 50.0
    late = plan(endpoint, records, seen(a_report("i-1", since=NOW - 60.0)), NOW, PATIENCE)
    assert late.endpoint is not None
    assert (late.endpoint.variants[0].setbacks, late.wake_at) == (0, None)


def test_unhealthy_instance_leaves_the_route_and_is_not_replaced_before_it_has_ended() -> None:
    endpoint = an_endpoint(status=EndpointStatus.IN_SERVICE)
    made = plan(endpoint, [an_instance("i-1")], seen(a_report("i-1", InstanceState.UNHEALTHY)), NOW, PATIENCE)
    assert made.add == ()
    assert made.route is not None
    assert made.route.variants[0].instances == ()


def test_failed_instance_fails_the_creation() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    failed = a_report("i-1", InstanceState.FAILED, failure=Failure.IMAGE)
    made = plan(endpoint, [an_instance("i-1")], seen(failed), NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.status == EndpointStatus.FAILED
    assert made.endpoint.failure_reason is not None
    assert made.endpoint.failure_reason.startswith("Please make sure all images")
    assert (made.add, made.forget, made.route) == ((), ("i-1",), None)


def test_creation_that_takes_too_long_fails_for_want_of_capacity() -> None:
    endpoint = an_endpoint(status=EndpointStatus.CREATING)
    made = plan(endpoint, [an_instance("i-1")], seen(), LATEST, PATIENCE)
    assert made.endpoint is not None
    assert (made.endpoint.status, made.endpoint.failure_reason) == (EndpointStatus.FAILED, NO_CAPACITY)


def test_creation_ends_after_too_many_losses() -> None:
    endpoint = an_endpoint(a_variant(setbacks=5), status=EndpointStatus.CREATING)
    made = plan(endpoint, [an_instance("i-1")], seen(a_report("i-1", InstanceState.EXITED)), NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.status == EndpointStatus.FAILED


def test_failed_endpoint_releases_its_capacity() -> None:
    endpoint = an_endpoint(status=EndpointStatus.FAILED)
    made = plan(endpoint, [an_instance("i-1")], seen(a_report("i-1")), NOW, PATIENCE)
    assert made == Plan(endpoint, retire=("i-1",))
    retired = [an_instance("i-1", retired_at=NOW)]
    assert plan(endpoint, retired, seen(a_report("i-1")), NOW, PATIENCE) == Plan(endpoint, stop=("i-1",))


def test_surplus_leaves_the_route_first_and_what_does_not_serve_goes_first() -> None:
    endpoint = an_endpoint(a_variant(count=1, previous_count=3), status=EndpointStatus.UPDATING)
    records = (an_instance("i-1"), an_instance("i-2", created_at=1.0), an_instance("i-3", created_at=2.0))
    reports = (a_report("i-1", InstanceState.STARTING), a_report("i-2"), a_report("i-3"))
    made = plan(endpoint, records, seen(*reports), NOW, PATIENCE)
    assert (made.retire, made.stop) == (("i-1", "i-3"), ())
    assert made.route is not None
    assert [instance.instance_id for instance in made.route.variants[0].instances] == ["i-2"]


@pytest.mark.parametrize(
    ("in_use", "now", "stop", "wake_at"),
    [
        (frozenset({"i-1"}), NOW, (), NOW + 20.0),
        (frozenset(), NOW, ("i-1",), None),
        (frozenset({"i-1"}), NOW + 20.0, ("i-1",), None),
    ],
)
def test_retired_instance_is_stopped_when_drained_or_after_the_bound(
    in_use: frozenset[str], now: float, stop: tuple[str, ...], wake_at: float | None
) -> None:
    endpoint = an_endpoint(status=EndpointStatus.DELETING)
    observed = Observed({"i-1": a_report("i-1")}, in_use=in_use)
    made = plan(endpoint, [an_instance("i-1", retired_at=NOW)], observed, now, PATIENCE)
    assert made == Plan(endpoint, stop=stop, wake_at=wake_at)


def test_stopping_instance_is_left_alone_and_a_stopped_one_forgotten() -> None:
    endpoint = an_endpoint(status=EndpointStatus.DELETING)
    records = [an_instance("i-1", retired_at=1.0), an_instance("i-2", retired_at=1.0)]
    observed = seen(a_report("i-1", InstanceState.STOPPING), a_report("i-2", InstanceState.STOPPED))
    assert plan(endpoint, records, observed, NOW, PATIENCE) == Plan(endpoint, forget=("i-2",))


def test_deleted_endpoint_goes_when_nothing_is_left_of_it() -> None:
    endpoint = an_endpoint(status=EndpointStatus.DELETING)
    assert plan(endpoint, [], seen(), NOW, PATIENCE) == Plan(None)
    routed = an_endpoint(status=EndpointStatus.IN_SERVICE)
    records = (an_instance("i-1"),)
    observed = seen(a_report("i-1"), endpoint=routed, records=records)
    assert plan(endpoint, [], observed, NOW, PATIENCE).endpoint == endpoint


def test_failed_scale_out_goes_back_to_what_was() -> None:
    variant = a_variant(count=3, previous_count=1, desired_weight=5.0, previous_weight=2.0)
    endpoint = an_endpoint(variant, status=EndpointStatus.UPDATING)
    records = (an_instance("i-1"), an_instance("i-2"))
    failed = a_report("i-2", InstanceState.FAILED, failure=Failure.CAPACITY)
    made = plan(endpoint, records, seen(a_report("i-1"), failed), NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.status == EndpointStatus.ROLLING_BACK
    back = made.endpoint.variants[0]
    assert (back.desired_count, back.desired_weight, back.previous_count) == (1, 2.0, None)
    assert made.endpoint.failure_reason == NO_CAPACITY


def test_loss_in_another_variant_does_not_fail_a_change() -> None:
    changed, other = a_variant("a", 2, previous_count=1), a_variant("b", 1)
    endpoint = an_endpoint(changed, other, status=EndpointStatus.UPDATING)
    records = (an_instance("i-1", "a"), an_instance("i-2", "a"), an_instance("i-3", "b"))
    reports = (
        a_report("i-1", variant="a"),
        a_report("i-2", variant="a"),
        a_report("i-3", InstanceState.FAILED, "b", failure=Failure.START),
    )
    made = plan(endpoint, records, seen(*reports), NOW, PATIENCE)
    assert made.endpoint is not None
    assert (made.endpoint.status, made.add) == (EndpointStatus.UPDATING, (Place("b", 0),))


def test_instance_of_a_variant_that_the_endpoint_does_not_have_leaves() -> None:
    endpoint = an_endpoint(status=EndpointStatus.IN_SERVICE)
    records = (an_instance("i-1"), an_instance("i-9", "old"))
    made = plan(endpoint, records, seen(a_report("i-1"), a_report("i-9", variant="old")), NOW, PATIENCE)
    assert made.retire == ("i-9",)


SHADOW = a_variant("s", shadow=True)
BOTH = (an_instance("i-1"), an_instance("i-s", "s"))


def test_shadow_gets_its_instances_and_the_endpoint_waits_for_them() -> None:
    endpoint = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.CREATING)
    assert plan(endpoint, [], seen(), NOW, PATIENCE).add == (Place("AllTraffic", 0), Place("s", 0))
    starting = seen(a_report("i-1"), a_report("i-s", InstanceState.STARTING))
    assert plan(endpoint, BOTH, starting, NOW, PATIENCE) == Plan(endpoint, wake_at=LATEST)
    ready = seen(a_report("i-1"), a_report("i-s"), endpoint=endpoint, records=BOTH)
    made = plan(endpoint, BOTH, ready, NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.status == EndpointStatus.IN_SERVICE


def test_shadow_that_cannot_start_fails_the_creation() -> None:
    endpoint = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.CREATING)
    failed = a_report("i-s", InstanceState.FAILED, failure=Failure.HEALTH_CHECK)
    made = plan(endpoint, BOTH, seen(a_report("i-1"), failed), NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.status == EndpointStatus.FAILED
    assert "variant s did not pass the ping health check" in (made.endpoint.failure_reason or "")


def test_lost_shadow_is_replaced_beside_an_endpoint_that_serves() -> None:
    endpoint = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.IN_SERVICE)
    made = plan(endpoint, BOTH, seen(a_report("i-1"), a_report("i-s", InstanceState.EXITED)), NOW, PATIENCE)
    assert (made.add, made.forget) == ((Place("s", 0),), ("i-s",))
    assert made.endpoint is not None
    assert made.endpoint.status == EndpointStatus.IN_SERVICE
    assert made.route is not None
    assert [instance.instance_id for instance in made.route.instances] == ["i-1"]


def test_shadow_that_leaves_is_stopped_once_no_gateway_sends_to_it() -> None:
    endpoint = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.IN_SERVICE)
    records = (BOTH[0], an_instance("i-s", "s"), an_instance("i-t", "s", created_at=1.0))
    reports = (a_report("i-1"), a_report("i-s"), a_report("i-t"))
    two = an_endpoint(a_variant(), a_variant("s", 2, shadow=True), status=EndpointStatus.IN_SERVICE)
    routed_to = seen(*reports, endpoint=two, records=records)
    made = plan(endpoint, records, routed_to, NOW, PATIENCE)
    assert (made.retire, made.stop) == (("i-t",), ())
    leaving = (*records[:2], an_instance("i-t", "s", created_at=1.0, retired_at=NOW))
    still_routed_to = plan(endpoint, leaving, routed_to, NOW, PATIENCE)
    assert (still_routed_to.stop, still_routed_to.wake_at) == ((), NOW + PATIENCE.drain_seconds)
    gone = seen(*reports, endpoint=endpoint, records=leaving)
    assert plan(endpoint, leaving, gone, NOW, PATIENCE).stop == ("i-t",)
