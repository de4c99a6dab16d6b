"""Which instance a shell is opened in, and whether it may be: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moorage.engine.contract import InstanceReport, InstanceSpec, InstanceState

_RUNNING = frozenset({InstanceState.STARTING, InstanceState.READY, InstanceState.UNHEALTHY})


class NoShell(Exception):
    """There is no shell to be had there; the text is for people."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where somebody wants a shell."""

    endpoint: str
    variant: str | None
    """None: any."""
    instance: str | None
    """None: any."""
    container: str | None = None
    """Of several in an instance; None: the first."""

    def __str__(self) -> str:
        return "/".join(part for part in (self.endpoint, self.variant, self.instance, self.container) if part)


@dataclass(frozen=True, slots=True)
class Entrance:
    """How an instance is entered."""

    instance_id: str
    pid: int
    """Its first process."""
    variables: Mapping[str, str] | None
    """Its environment; None: what its first process has was given to it when it was executed."""


@dataclass(frozen=True, slots=True)
class Door:
    """What is needed of one container to enter it."""

    pid: int
    """Its first process."""
    variables: Mapping[str, str] | None
    """As ``Entrance`` has them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One instance of this machine."""

    spec: InstanceSpec
    report: InstanceReport
    doors: Mapping[str, Door]
    """Of its containers, by name, in order; empty before they are started."""


def choose(wanted: Wanted, candidates: Sequence[Candidate]) -> Entrance:
    """Give the instance to be entered, one that is ready before others; raises NoShell."""
    named = [one for one in candidates if _is_named(one.spec, wanted)]
    running = [one for one in named if one.report.state in _RUNNING and one.doors]
    if not running:
        known = sorted({f"{one.spec.endpoint}/{one.spec.variant}" for one in candidates}) or ["none"]
        why = "has not started yet" if named else "does not run here"
        raise NoShell(f"{wanted} {why}. Running: {', '.join(known)}.")
    allowed = [one for one in running if one.spec.shell_access]
    if not allowed:
        spec = running[0].spec
        raise NoShell(
            f"The variant {spec.variant} of the endpoint {spec.endpoint} allows no shell: its configuration does not "
            "have EnableSSMAccess. Make one with EnableSSMAccess set to true, and update the endpoint to it."
        )
    best = min(allowed, key=lambda one: (one.report.state is not InstanceState.READY, one.spec.instance_id))
    name = wanted.container or next(iter(best.doors))
    if (door := best.doors.get(name)) is None:
        raise NoShell(f"{best.spec.instance_id} has no container {name}. Its containers: {', '.join(best.doors)}.")
    return Entrance(best.spec.instance_id, door.pid, door.variables)


def _is_named(spec: InstanceSpec, wanted: Wanted) -> bool:
    return (
        spec.endpoint == wanted.endpoint
        and wanted.variant in {None, spec.variant}
        and wanted.instance in {None, spec.instance_id}
    )
