"""What all connections of a gateway share."""

from dataclasses import dataclass, field

from moorage.base.chance import Chance
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.gateway.access_log import AccessLog
from moorage.gateway.answers import http_date
from moorage.gateway.capture.recorder import Recorder
from moorage.gateway.familiar import Familiar
from moorage.gateway.hold import Hold
from moorage.gateway.instances import Instances
from moorage.gateway.owners import Owner
from moorage.gateway.quick import QuickReader
from moorage.gateway.sessions import Sessions
from moorage.gateway.shadow.mirror import Mirror
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
    sessions: Sessions
    """Which sticky session is where."""
    hold: Hold
    """Who waits for capacity."""
    meters: Meters
    """What is counted of invocations."""
    recorder: Recorder
    """Where sampled invocations are offered to."""
    mirror: Mirror
    """What copies invocations to shadow variants."""
    access_log: AccessLog | None = None
    """None: none is wanted."""
    quick: QuickReader = field(default_factory=QuickReader)
    familiar: Familiar = field(default_factory=Familiar)
    """Of the present snapshot."""
    secure: bool = False
    """Whether clients speak TLS to us."""
    routing: Routing | None = None
    """The present snapshot, replaced whole; None until the first one has come."""
    ticked_at: float = 0.0
    """Monotonic seconds at the last tick: what deadlines are counted from, to a tenth of a second."""
    date: bytes = b""
    """The Date header's present value."""
    buffered_bytes: int = 0
    """Bodies of requests and answers in memory, but for those that came in one piece."""
    buffered_peak: int = 0
    """The most that ``buffered_bytes`` was since memory was given back to the system."""
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

    def apply(self, routing: Routing) -> None:
        """Route by a new snapshot: invocations that are decided from now on see it, and nothing of the old one."""
        self.routing = routing
        self.familiar = Familiar()
        self.instances.apply(routing.instances)
        self.recorder.apply(routing)
        self.mirror.apply(routing)
        self.meters.serve(
            (*key, variant.name)
            for key, routes in routing.endpoints.items()
            for variant in (*routes.endpoint.variants, *routes.endpoint.shadows)
        )
        self.hold.release_all()
