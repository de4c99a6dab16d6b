"""Which instances of shadow variants take no connections, and for how long each is left alone.

Each time longer: a dead shadow variant costs one attempt to connect now and then, and as many messages to the
control plane.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from moorage.base.clock import Clock
from moorage.gateway.instances import Instances

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Refusing:
    """An instance that takes no connections."""

    seconds: float
    until: float


class Refusals:
    """The instances that have refused, by id."""

    def __init__(self, instances: Instances, clock: Clock) -> None:
        self._instances = instances
        self._clock = clock
        self._refusing: dict[str, _Refusing] = {}

    def __len__(self) -> int:
        return len(self._refusing)

    def refuses(self, instance_id: str) -> None:
        """Leave an instance alone for a while, and say so to the control plane."""
        now = self._clock.monotonic()
        last = self._refusing.get(instance_id)
        if last is not None and last.until > now:  # several have found it out at the same time
            return
        seconds = FIRST_SECONDS if last is None else min(2 * last.seconds, LONGEST_SECONDS)
        self._refusing[instance_id] = _Refusing(seconds, now + seconds)
        self._instances.suspect(instance_id)

    def takes(self, instance_id: str) -> None:
        """Note that an instance has taken a connection."""
        if self._refusing:
            self._refusing.pop(instance_id, None)

    def left_alone(self) -> Collection[str]:
        """Give the instances that are not to be asked now, those that production has found out among them."""
        suspects = self._instances.suspects
        if not self._refusing:
            return suspects
        now = self._clock.monotonic()
        return {*suspects, *(key for key, refusing in self._refusing.items() if refusing.until > now)}

    def keep_only(self, instances: Mapping[str, object]) -> None:
        """Forget the instances that are no longer there."""
        self._refusing = {key: value for key, value in self._refusing.items() if key in instances}
