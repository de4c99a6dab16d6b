"""CreateEndpoint to InService."""

import statistics
import time
from collections.abc import Iterator

from benchmarks.measures import Measure
from benchmarks.server import make_configuration, server, wait_in_service

RUNS = 3


def measure() -> Iterator[Measure]:
    """Make an endpoint of four instances: each time with a cold server, then once more while it is warm."""
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(RUNS):
        with server() as moorage:
            sagemaker = make_configuration(moorage, variants=2, instances=2)
            for name, seconds in (("cold", cold), ("warm", warm)):
                started = time.perf_counter()
                sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="bench")
                wait_in_service(sagemaker, name)
                seconds.append(time.perf_counter() - started)
    what = "CreateEndpoint to InService, environment cached, 4 instances"
    yield Measure(what, "<= 2.0 s", f"{statistics.median(cold):.2f} s", "the first endpoint of a server")
    yield Measure(what, "", f"{statistics.median(warm):.2f} s", "the next one")
