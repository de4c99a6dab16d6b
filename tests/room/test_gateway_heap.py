import subprocess
import sys

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


def page_faults(first: str) -> int:
    program = PROGRAM.format(first=first)
    return int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def test_pieces_of_bodies_are_not_taken_from_the_system_each_time() -> None:
    assert page_faults("keep_memory()") * 4 < page_faults("")
