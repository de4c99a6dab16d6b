"""How the gateway's memory is taken from the system: large pieces of bodies come again and again.

By default glibc asks the system for each piece above 128 kB and gives it back at once; the page faults of a body of
6 MB then take as long as moving it. So pieces come from the heap, and some of it is kept.
"""

import ctypes

KEPT_BYTES = 64 * 2**20
"""Free memory at the end of the heap that is not given back."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_memory() -> None:
    """Tell the C library of this process; one that knows nothing of it goes on as it did."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
