"""The instances of the present snapshot: their connections, which look dead, and which have no place left.

An instance that refuses a connection, or closes one without an answer, is passed over for a while (*suspect*). Then
the gateway itself dials it: if it takes the connection it is asked again, else it is passed over for twice as long.
So no invocation pays for finding out, and a dead instance costs a dial now and then.
"""

from collections.abc import Callable, Mapping
from functools import partial

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.gateway.upstream import Borrower, Pool, UpstreamConnection
from moorage.routing.conditions import Conditions
from moorage.routing.snapshot import Instance

DIAL_SECONDS = 2.0
"""AWS gives a container 250 ms to accept (data-plane.md section 1.3); a busy laptop gets more."""

SUSPECT_SECONDS = 1.0
"""For how long an instance that refused is passed over, the first time."""

LONGEST_SUSPECT_SECONDS = 30.0


class Instances:
    """Pools by instance id."""

    def __init__(  # noqa: PLR0913 - who hears of what
        self,
        tasks: Tasks,
        clock: Clock,
        *,
        drained: Callable[[str], None],
        unreachable: Callable[[str], None],
        recovered: Callable[[], None],
        most_outstanding: int,
    ) -> None:
        """Make it empty.

        ``drained`` is told the id of an instance that is no longer in the snapshot when its last answer is
        complete, ``unreachable`` that of one that refuses; ``recovered`` is called when one takes connections again.
        An instance with ``most_outstanding`` invocations in flight is full.
        """
        self.suspects: dict[str, float] = {}
        """Instance ids, and until when each is passed over."""
        self._full: set[str] = set()
        self.conditions = Conditions(suspects=self.suspects, full=self._full, outstanding=self.outstanding)
        """What decisions look at."""
        self._tasks = tasks
        self._clock = clock
        self._drained = drained
        self._unreachable = unreachable
        self._recovered = recovered
        self._most_outstanding = most_outstanding
        self._patience: dict[str, float] = {}
        """For how many seconds each suspect is passed over."""
        self._pools: dict[str, Pool] = {}
        self._retired: dict[str, Pool] = {}

    def __repr__(self) -> str:
        pools = self._pools.values()
        return (
            f"<Instances: {len(pools)}, {sum(pool.outstanding for pool in pools)} outstanding, {len(self._full)} full, "
            f"{len(self._retired)} draining, {len(self.suspects)} suspect>"
        )

    def apply(self, instances: Mapping[str, Instance]) -> None:
        """Serve these instances from now on, and no others."""
        for instance_id, pool in list(self._pools.items()):
            known = instances.get(instance_id)
            if known is None or known.address != pool.address:
                del self._pools[instance_id]
                self._trust(instance_id)
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
                    most_outstanding=self._most_outstanding,
                    on_full=partial(self._note_full, instance_id),
                )

    def borrow(self, instance: Instance, borrower: Borrower, *, look: bool = True) -> None:
        """Lend a connection to an instance; see ``Pool.borrow``."""
        pool = self._pools.get(instance.instance_id)
        if pool is None:
            borrower.upstream_refused("the instance is no longer in the snapshot")
        else:
            pool.borrow(borrower, look=look)

    def suspect(self, instance_id: str) -> None:
        """Pass over an instance for a while, and say so to the control plane."""
        if instance_id in self._pools and instance_id not in self.suspects:
            self._unreachable(instance_id)
            self._pass_over(instance_id, SUSPECT_SECONDS)

    def sweep(self, now: float) -> None:
        """Close old connections; dial the suspects whose time is over."""
        for pool in self._pools.values():
            pool.sweep(now)
        for instance_id in [key for key, until in self.suspects.items() if until <= now]:
            self.suspects[instance_id] = (
                now + DIAL_SECONDS + SUSPECT_SECONDS
            )  # no second dial before this one has ended
            self._pools[instance_id].dial(_Visitor(self, instance_id))

    def outstanding(self, instance_id: str) -> int:
        """Count the invocations in flight on an instance."""
        pool = self._pools.get(instance_id) or self._retired.get(instance_id)
        return pool.outstanding if pool else 0

    def visited(self, instance_id: str, *, well: bool) -> None:
        """Note what dialling a suspect has shown."""
        if instance_id not in self.suspects:
            return
        if well:
            self._trust(instance_id)
            self._recovered()
        else:
            self._pass_over(instance_id, min(2 * self._patience[instance_id], LONGEST_SUSPECT_SECONDS))

    def _pass_over(self, instance_id: str, seconds: float) -> None:
        self._patience[instance_id] = seconds
        self.suspects[instance_id] = self._clock.monotonic() + seconds

    def _trust(self, instance_id: str) -> None:
        self.suspects.pop(instance_id, None)
        self._patience.pop(instance_id, None)

    def _note_full(self, instance_id: str, *, full: bool) -> None:
        if full:
            self._full.add(instance_id)
        else:
            self._full.discard(instance_id)

    def _gone(self, instance_id: str) -> None:
        self._retired.pop(instance_id, None)
        self._full.discard(instance_id)
        self._drained(instance_id)


class _Visitor:
    """Dials a suspect, and asks nothing of it."""

    def __init__(self, instances: Instances, instance_id: str) -> None:
        self._instances = instances
        self._instance_id = instance_id

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """Note that it takes connections; the connection is kept for the next invocation."""
        connection.give_back()
        self._instances.visited(self._instance_id, well=True)

    def upstream_refused(self, reason: str) -> None:  # noqa: ARG002 - that it refuses is enough
        """Note that it still refuses."""
        self._instances.visited(self._instance_id, well=False)

    def upstream_writable(self, *, writable: bool) -> None:
        """Nothing is written."""
