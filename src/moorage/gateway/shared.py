"""What all connections of a gateway share."""

from dataclasses import dataclass

from moorage.base.chance import Chance
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.gateway.answers import http_date
from moorage.gateway.instances import Instances
from moorage.gateway.owners import Owner
from moorage.gateway.upstream import Pool
from moorage.routing.decide import Routing


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
    secure: bool = False
    """Whether clients speak TLS to us."""
    routing: Routing | None = None
    """The present snapshot, replaced whole; None until the first one has come."""
    date: bytes = b""
    """The Date header's present value."""
    stopping: bool = False
    """No connection is kept alive any more."""

    def tick(self, now: float) -> None:
        """Do what is due from time to time: ``now`` is ``clock.monotonic()``."""
        self.date = http_date(self.clock.now())
        self.instances.sweep(now)
        for pool in self.owners.values():
            pool.sweep(now)
