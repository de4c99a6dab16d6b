"""Hands bytes on between descriptors, several ways at once, none of which waits for another."""

import os
import select
from collections.abc import Sequence
from dataclasses import dataclass

_PIECE_BYTES = 65_536


@dataclass(eq=False, slots=True)
class Flow:
    """One way: what comes out of ``source`` goes into ``sink``."""

    source: int
    sink: int
    lent: bool = True
    """The sink is somebody else's; else it is closed at the end, so that its reader hears of that."""
    held: bytes = b""
    """What was read and is not written yet; nothing more is read before that."""
    dry: bool = False
    """Nothing will come any more."""

    @property
    def is_over(self) -> bool:
        """Everything has been handed on."""
        return self.dry and not self.held

    def read(self) -> None:
        """Take what there is."""
        try:
            self.held = os.read(self.source, _PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process that had this terminal open has ended
            self.held = b""
        if not self.held:
            self._end()

    def write(self) -> None:
        """Give what the sink takes now."""
        try:
            self.held = self.held[os.write(self.sink, self.held) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self.held = b""
            self._end()

    def _end(self) -> None:
        if not self.dry and not self.lent:
            os.close(self.sink)
        self.dry = True


def hand_on(flows: Sequence[Flow], *, last: Flow | None = None, bell: int | None = None) -> None:
    """Hand on until ``last`` is over, or something can be read from ``bell``."""
    while last is None or not last.is_over:
        sources = [flow.source for flow in flows if not flow.dry and not flow.held]
        sinks = [flow.sink for flow in flows if flow.held]
        ready, writable, _ = select.select([*sources, *([] if bell is None else [bell])], sinks, [])
        if bell in ready:
            return
        _step(flows, ready, writable)


def hand_on_the_rest(flows: Sequence[Flow]) -> None:
    """Hand on what can be read at once, whether or not more may follow."""
    while left := [flow for flow in flows if not flow.is_over]:
        sources = [flow.source for flow in left if not flow.held]
        ready, _, _ = select.select(sources, [], [], 0)
        if not ready and not any(flow.held for flow in left):
            return
        _step(left, ready, [flow.sink for flow in left if flow.held])


def _step(flows: Sequence[Flow], ready: Sequence[int], writable: Sequence[int]) -> None:
    for flow in flows:
        if flow.held and flow.sink in writable:
            flow.write()
        elif not flow.dry and flow.source in ready:
            flow.read()
