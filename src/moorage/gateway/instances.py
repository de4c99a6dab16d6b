"""The instances of the present snapshot: their connections, and which of them look dead."""

from collections.abc import Callable, Mapping
from functools import partial

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.gateway.upstream import Borrower, Pool
from moorage.routing.conditions import Conditions
from moorage.routing.snapshot import Instance

DIAL_SECONDS = 2.0
"""AWS gives a container 250 ms to accept (data-plane.md section 1.3); a busy laptop gets more."""

SUSPECT_SECONDS = 1.0
"""For how long an instance that refused is passed over, before one invocation tries it again."""


class Instances:
    """Pools by instance id."""

    def __init__(
        self,
        tasks: Tasks,
        clock: Clock,
        *,
        drained: Callable[[str], None],
        unreachable: Callable[[str], None],
    ) -> None:
        """Make it empty.

        ``drained`` is told the id of an instance that is no longer in the snapshot when its last answer is
        complete, ``unreachable`` that of one that refuses.
        """
        self.suspects: dict[str, float] = {}
        """Instance ids, and until when each is passed over."""
        self.conditions = Conditions(suspects=self.suspects, outstanding=self.outstanding)
        """What decisions look at."""
        self._tasks = tasks
        self._clock = clock
        self._drained = drained
        self._unreachable = unreachable
        self._pools: dict[str, Pool] = {}
        self._retired: dict[str, Pool] = {}

    def __repr__(self) -> str:
        pools = self._pools.values()
        return (
            f"<Instances: {len(pools)}, {sum(pool.outstanding for pool in pools)} outstanding, "
            f"{len(self._retired)} draining, {len(self.suspects)} suspect>"
        )

    def apply(self, instances: Mapping[str, Instance]) -> None:
        """Serve these instances from now on, and no others."""
        for instance_id, pool in list(self._pools.items()):
            known = instances.get(instance_id)
            if known is None or known.address != pool.address:
                del self._pools[instance_id]
                self.suspects.pop(instance_id, None)
                self._retired[instance_id] = pool
                pool.retire(partial(self._gone, instance_id))
        for instance_id, instance in instances.items():
            if instance_id not in self._pools:
                self._pools[instance_id] = Pool(
                    instance.address,
                    self._tasks,
                    self._clock,
                    dial_seconds=DIAL_SECONDS,
                    dial_again=(BlockingIOError,),  # the instance's queue of connections is full
                )

    def borrow(self, instance: Instance, borrower: Borrower) -> None:
        """Lend a connection to an instance; see ``Pool.borrow``."""
        pool = self._pools.get(instance.instance_id)
        if pool is None:
            borrower.upstream_refused("the instance is no longer in the snapshot")
        else:
            pool.borrow(borrower)

    def suspect(self, instance_id: str) -> None:
        """Pass over an instance for a moment, and say so to the control plane."""
        if instance_id in self._pools and instance_id not in self.suspects:
            self._unreachable(instance_id)
            self.suspects[instance_id] = self._clock.monotonic() + SUSPECT_SECONDS

    def sweep(self, now: float) -> None:
        """Close old connections; forget old suspicions."""
        for pool in self._pools.values():
            pool.sweep(now)
        for instance_id in [key for key, until in self.suspects.items() if until < now]:
            del self.suspects[instance_id]

    def outstanding(self, instance_id: str) -> int:
        """Count the invocations in flight on an instance."""
        pool = self._pools.get(instance_id) or self._retired.get(instance_id)
        return pool.outstanding if pool else 0

    def _gone(self, instance_id: str) -> None:
        self._retired.pop(instance_id, None)
        self._drained(instance_id)
