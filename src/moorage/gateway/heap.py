"""How the gateway's memory is taken from the system: large pieces of bodies come again and again.

By default glibc asks the system for each piece above 128 kB and gives it back at once; the page faults of a body of
6 MB then take as long as moving it. So pieces come from the heap, and some of it is kept. What a burst of large bodies
has left is given back when they have gone: whatever small thing was made behind it would keep it from the system.
"""

import asyncio
import ctypes

from moorage.base.clock import Clock
from moorage.gateway.shared import Shared

KEPT_BYTES = 64 * 2**20
"""Free memory that is not given back."""

LOOK_SECONDS = 2.0

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_memory() -> None:
    """Tell the C library of this process; one that knows nothing of it goes on as it did."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


async def keep_trimmed(shared: Shared, clock: Clock) -> None:
    """Give memory back whenever bodies had much more of it than they have now, until cancelled."""
    while True:
        await clock.sleep_until(clock.monotonic() + LOOK_SECONDS)
        if shared.buffered_peak - shared.buffered_bytes > KEPT_BYTES:
            shared.buffered_peak = shared.buffered_bytes
            await asyncio.to_thread(give_memory_back)


def give_memory_back() -> None:
    """Give all free memory of this process back to the system, where the C library can."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
