"""What all connections of a gateway share."""

from dataclasses import dataclass, field

from moorage.base.chance import Chance
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.gateway.access_log import AccessLog
from moorage.gateway.answers import http_date
from moorage.gateway.familiar import Familiar
from moorage.gateway.instances import Instances
from moorage.gateway.mirror import Mirror
from moorage.gateway.owners import Owner
from moorage.gateway.quick import QuickReader
from moorage.gateway.recorder import Recorder
from moorage.gateway.upstream import Pool
from moorage.routing.decide import Routing
from moorage.telemetry.meters import Meters


@dataclass(eq=False)
class Shared:
    """Handed to each connection; of one event loop, so nothing in it is locked."""

    limits: Limits
    clock: Clock
    chance: Chance
    ids: Ids
    tasks: Tasks
    instances: Instances
    owners: dict[Owner, Pool]
    """The processes that requests are relayed to."""
    quick: QuickReader = field(default_factory=QuickReader)
    familiar: Familiar = field(default_factory=Familiar)
    """Of the present snapshot."""
    ticked_at: float = 0.0
    """Monotonic seconds at the last tick: what deadlines are counted from, to a tenth of a second."""
    meters: Meters
    """What is counted of invocations."""
    access_log: AccessLog | None = None
    """None: none is wanted."""
    recorder: Recorder
    """Where sampled invocations are offered to."""
    mirror: Mirror
    """What copies invocations to shadow variants."""
    routing: Routing | None = None
    """The present snapshot, replaced whole; None until the first one has come."""
    date: bytes = b""
    """The Date header's present value."""
    stopping: bool = False
    """No connection is kept alive any more."""

    def tick(self, now: float) -> None:
        """Do what is due from time to time: ``now`` is ``clock.monotonic()``."""
        self.ticked_at = now
        self.date = http_date(self.clock.now())
        self.instances.sweep(now)
        self.mirror.tick(now)
        for pool in self.owners.values():
            pool.sweep(now)
