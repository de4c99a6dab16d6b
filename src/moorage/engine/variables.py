"""The environment variables of a container (data-plane.md section 7.2), purely."""

from collections.abc import Mapping
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
"""What numerical libraries ask for the number of their threads; without them each takes the whole machine."""

HOSTNAME = "container-0.local"
"""Host name of a single container (data-plane.md section 7.1)."""

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def count_threads(given: Mapping[str, str], vcpus: int, machine_cpus: int) -> int:
    """Give the number of threads of numerical libraries: the user's, or one for each vCPU that is there.

    Libraries read it once, when they are loaded: so the zygote must have it, and one zygote serves one number.
    """
    wanted = given.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and 0 < int(wanted) <= machine_cpus:
        return int(wanted)
    return max(1, min(vcpus, machine_cpus))


def make_variables(given: Mapping[str, str], *, region: str, python: Path, threads: int) -> dict[str, str]:
    """Lay the user's variables over those that every container gets."""
    return {**base_variables(python, threads), **container_variables(given, region=region)}


def container_variables(given: Mapping[str, str], *, region: str) -> dict[str, str]:
    """Lay the user's variables over those that the service gives every container, whatever its image."""
    return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, **given}


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
