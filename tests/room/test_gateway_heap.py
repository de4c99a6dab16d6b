import subprocess
import sys

import pytest
from tests.support.gateway import answers, endpoint, until, variant, world

from moorage.gateway import heap

PROGRAM = """
import resource
from moorage.gateway.heap import keep_memory
{first}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    body = [bytes(256_000) for _ in range(24)]
    body.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

BURST = """
from pathlib import Path
from moorage.gateway.heap import give_memory_back, keep_memory

def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)

keep_memory()
bodies = [b"x" * size for size in [200_000] * 1_000]
del bodies[:-20]  # the last ones stay, behind all the others
kept = resident()
give_memory_back()
print(kept, resident())
"""


def printed(program: str) -> list[int]:
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return list(map(int, said.stdout.split()))


def test_pieces_of_bodies_are_not_taken_from_the_system_each_time() -> None:
    assert printed(PROGRAM.format(first="keep_memory()"))[0] * 4 < printed(PROGRAM.format(first=""))[0]


def test_what_a_burst_has_left_is_given_back_whatever_lies_behind() -> None:
    before, after = printed(BURST)
    assert (before > 150_000, after < 80_000) == (True, True), (before, after)


async def test_a_gateway_gives_memory_back_when_a_burst_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(heap, "KEPT_BYTES", 2_000_000)
    monkeypatch.setattr(heap, "give_memory_back", lambda: given.append(1))
    async with world(speed=20) as made:
        await made.start(endpoint("ep", variant("v1", await made.instance("a", answers(b"ok")))))
        assert (await made.invoke("ep", b"x" * 3_000_000)).status == 200
        await until(lambda: len(given) == 1)
        assert (await made.invoke("ep", b"x" * 3_000_000)).status == 200
        await until(lambda: len(given) == 2)
