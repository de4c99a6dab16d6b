"""UpdateEndpoint's roll-out, blue/green and all at once (control-plane.md section 7.3), as a table of stages.

    Launching ─ready─► Shifting ─in force─► Baking ─baked─► Terminating ─gone─► the new configuration is the endpoint's
        └────failed──────┴──────failed────────┴──────────► Abandoning ──gone─► the endpoint is as it was, with a reason

Rules of this table:

1. The old fleet is whole until the new one has served for as long as was asked: what fails before that, fails beside
   an endpoint that serves.
2. Traffic is switched in one snapshot, once every instance of the new fleet takes invocations.
3. A stage is recorded before anything is done about it, and each pass does what its stage needs: a control plane that
   dies in between goes on where the record stands.
4. Without alarms nothing but the time that was allowed for all of it ends a deployment after its fleet was ready:
   instances that are lost then are replaced like any others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto

from moorage.control.planning.failures import OVERTIME
from moorage.control.planning.fleets import Draft, Fleet, keep_fleets, retire_fleet, why_it_fails
from moorage.control.planning.routes import is_in_force
from moorage.control.planning.status import Event, follow
from moorage.state.records import Deployment, EndpointRecord, Stage


class StageEvent(Enum):
    """What moves a deployment."""

    READY = auto()
    """All instances of the new fleet take invocations."""
    IN_FORCE = auto()
    """All gateways route to the new fleet."""
    BAKED = auto()
    """The new fleet has served for TerminationWaitInSeconds."""
    FAILED = auto()
    """The new fleet cannot be had, or the time for all of it is over."""


STAGES: dict[tuple[Stage, StageEvent], Stage] = {
    (Stage.LAUNCHING, StageEvent.READY): Stage.SHIFTING,
    (Stage.LAUNCHING, StageEvent.FAILED): Stage.ABANDONING,
    (Stage.SHIFTING, StageEvent.IN_FORCE): Stage.BAKING,
    (Stage.SHIFTING, StageEvent.FAILED): Stage.ABANDONING,
    (Stage.BAKING, StageEvent.BAKED): Stage.TERMINATING,
    (Stage.BAKING, StageEvent.FAILED): Stage.ABANDONING,
}


def roll_out(endpoint: EndpointRecord, deployment: Deployment, draft: Draft) -> EndpointRecord:
    """Plan for an endpoint on its way to another fleet."""
    if deployment.stage == Stage.TERMINATING and not draft.any_of(endpoint.fleet):
        return _completed(endpoint, deployment, draft.now)
    if deployment.stage == Stage.ABANDONING and not draft.any_of(deployment.fleet) and _in_force(endpoint, draft):
        return _given_up(endpoint, draft.now)
    new = draft.fleets(deployment.variants, deployment.fleet)
    if reason := _failure(deployment, new, draft):
        endpoint = replace(endpoint, failure_reason=reason)
        deployment = _moved(deployment, StageEvent.FAILED, draft.now)
    elif event := _progress(endpoint, deployment, new, draft):
        deployment = _moved(deployment, event, draft.now)
    return _keep(endpoint, deployment, new, draft)


def _completed(endpoint: EndpointRecord, deployment: Deployment, now: float) -> EndpointRecord:
    return replace(
        endpoint,
        config_name=deployment.config_name,
        variants=deployment.variants,
        fleet=deployment.fleet,
        deployment=None,
        deployment_config=deployment.config,
        capture=deployment.capture,
        status=follow(endpoint.status, Event.SETTLED),
        modified_at=now,
    )


def _given_up(endpoint: EndpointRecord, now: float) -> EndpointRecord:
    return replace(endpoint, deployment=None, status=follow(endpoint.status, Event.SETTLED), modified_at=now)


def _moved(deployment: Deployment, event: StageEvent, now: float) -> Deployment:
    return replace(deployment, stage=STAGES[deployment.stage, event], stage_since=now)


def _failure(deployment: Deployment, new: Sequence[Fleet], draft: Draft) -> str | None:
    """Say why the deployment is to be given up, if it is and still can be."""
    if (deployment.stage, StageEvent.FAILED) not in STAGES:
        return None
    if (most := _policy(deployment).get("MaximumExecutionTimeoutInSeconds")) is not None:
        if draft.now >= deployment.started_at + most:
            return OVERTIME.format(seconds=most)
        draft.wake.append(deployment.started_at + most)
    if deployment.stage != Stage.LAUNCHING:
        return None
    return why_it_fails(new, deployment.started_at, draft)


def _progress(
    endpoint: EndpointRecord, deployment: Deployment, new: Sequence[Fleet], draft: Draft
) -> StageEvent | None:
    """Say what has come about that the deployment has been waiting for."""
    match deployment.stage:
        case Stage.LAUNCHING if all(fleet.is_whole for fleet in new):
            return StageEvent.READY
        case Stage.SHIFTING if _in_force(endpoint, draft):
            return StageEvent.IN_FORCE
        case Stage.BAKING:
            baked_at = deployment.stage_since + termination_wait_of(deployment)
            if draft.now >= baked_at:
                return StageEvent.BAKED
            draft.wake.append(baked_at)
    return None


def _keep(endpoint: EndpointRecord, deployment: Deployment, new: Sequence[Fleet], draft: Draft) -> EndpointRecord:
    """Keep the fleets that the stage needs, and let go of the one that it does not."""
    variants, replacing = endpoint.variants, deployment.variants
    if deployment.stage == Stage.TERMINATING:
        retire_fleet(endpoint.fleet, draft)
    else:
        variants = keep_fleets(draft.fleets(variants, endpoint.fleet), draft)
    if deployment.stage == Stage.ABANDONING:
        retire_fleet(deployment.fleet, draft)
    else:
        replacing = keep_fleets(new, draft)
    return replace(endpoint, variants=variants, deployment=replace(deployment, variants=replacing))


def _in_force(endpoint: EndpointRecord, draft: Draft) -> bool:
    return is_in_force(endpoint, draft.instances, draft.observed)


def termination_wait_of(deployment: Deployment) -> int:
    """Give the seconds for which the old fleet is kept after the new one has taken over."""
    return _policy(deployment).get("TerminationWaitInSeconds", 0)


def _policy(deployment: Deployment) -> Mapping[str, int]:
    policy: Mapping[str, int] = (deployment.config or {}).get("BlueGreenUpdatePolicy", {})
    return policy
