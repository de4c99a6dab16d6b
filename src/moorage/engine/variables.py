"""The environment variables of a container (data-plane.md section 7.2), purely."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
"""What numerical libraries ask for the number of their threads; without them each takes the whole machine."""

WORKERS_VARIABLE = "MOORAGE_WORKERS"
"""What the built-in server asks for the number of its workers when the user does not say it."""

HOSTNAME = "container-0.local"
"""Host name of a single container (data-plane.md section 7.1)."""

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


_WORKER_BYTES = 2**30
_FIRST_PORT = 8080
_FIRST_SAFE_PORT = 20_000
_SAFE_PORTS = 100


@dataclass(frozen=True, slots=True)
class Ports:
    """What one of several containers is told of ports: AWS's share one network, and must not take another's."""

    bind: int
    """Where it is to listen."""
    first_safe: int
    """Of those that it may use for itself."""
    last_safe: int

    @property
    def variables(self) -> dict[str, str]:
        """Give the variables that tell it."""
        return {
            "SAGEMAKER_BIND_TO_PORT": str(self.bind),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{self.first_safe}-{self.last_safe}",
        }


def ports_of(at: int) -> Ports:
    """Give the ports of one of several containers, counted from 0: no two have one in common."""
    first = _FIRST_SAFE_PORT + at * _SAFE_PORTS
    return Ports(_FIRST_PORT + at, first, first + _SAFE_PORTS - 1)


def count_threads(given: Mapping[str, str], vcpus: int, machine_cpus: int) -> int:
    """Give the number of threads of numerical libraries: the user's, or one for each vCPU that is there.

    Libraries read it once, when they are loaded: so the zygote must have it, and one zygote serves one number.
    """
    wanted = given.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and 0 < int(wanted) <= machine_cpus:
        return int(wanted)
    return max(1, min(vcpus, machine_cpus))


def count_workers(vcpus: int, machine_cpus: int, memory_bytes: int) -> int:
    """Give the most workers of a built-in server whose number the user has not set (``serving.workers``).

    One for each vCPU that is there, as in AWS's containers; but each is to have a gibibyte of the instance's memory,
    of which all types have twice as much and small machines have not.
    """
    return max(1, min(vcpus, machine_cpus, memory_bytes // _WORKER_BYTES))


def make_variables(  # noqa: PLR0913 - what they are made of
    given: Mapping[str, str],
    *,
    region: str,
    python: Path,
    threads: int,
    workers: int = 1,
    ports: Ports | None = None,
    multi_model: bool = False,
) -> dict[str, str]:
    """Lay the user's variables over those that every container gets."""
    ours = {**base_variables(python, threads), WORKERS_VARIABLE: str(workers)}
    return {**ours, **container_variables(given, region=region, ports=ports, multi_model=multi_model)}


def container_variables(
    given: Mapping[str, str], *, region: str, ports: Ports | None = None, multi_model: bool = False
) -> dict[str, str]:
    """Lay the user's variables over those that the service gives every container, whatever its image.

    ``ports`` are those of one of several containers, and not the user's to change: there it is asked. The same is true
    of whether it serves many models.
    """
    told = {**(ports.variables if ports else {}), **({"SAGEMAKER_MULTI_MODEL": "true"} if multi_model else {})}
    return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, **given, **told}


def base_variables(python: Path, threads: int) -> dict[str, str]:
    """Give the variables of any process of an environment, a zygote too."""
    return {
        "PATH": f"{python.parent}:{_SYSTEM_PATH}",
        "HOME": "/tmp",  # noqa: S108 - private to the instance in the sandbox
        "LANG": "C.UTF-8",
        "USER": "model",
        "LOGNAME": "model",
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
    }
