"""How fast the gateway is, beside what else there is: ``scripts/bench gateway``.

Everything is measured against nginx in the same minutes on the same two cores, because a shared machine's speed
changes: the server under load has the first core alone, the load (wrk) and the server behind have the second. CPU time
per request is the steady number. Start reading at ``cpu``, the measure that all others are built like.
"""

from collections.abc import Iterator

from benchmarks.measures import Measure


def measure() -> Iterator[Measure]:
    """Measure all of it with the peers that are quick to install."""
    # Not at the top: the gateway process that is measured imports this package too.
    from benchmarks.gateway.command import measure as measure_all  # noqa: PLC0415

    return measure_all()
