"""The pump over real pipes: floods, ends, kills, several streams at once."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.base.clock import SystemClock
from moorage.logs.names import Place
from moorage.logs.pump import ContainerLog, Pump
from moorage.logs.reader import StreamReader
from moorage.logs.writer import Bounds

BOUNDS = Bounds(segment_bytes=2**20, segments=2)


@pytest.fixture
def pump() -> Iterator[Pump]:
    made = Pump(BOUNDS, SystemClock())
    yield made
    made.close()


@pytest.fixture
def log(pump: Pump, tmp_path: Path) -> ContainerLog:
    return ContainerLog(pump, Place(tmp_path / "wine", "AllTraffic/i-1"))


def printed(log: ContainerLog) -> list[bytes]:
    reader = StreamReader(log.folder)
    return [event.message for event in reader.forward(reader.start, reader.end)]


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def run(log: ContainerLog, code: str) -> "subprocess.Popen[bytes]":
    output = log.open()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=output)
    os.close(output)
    return process


def test_lines_get_the_time_at_which_they_come(log: ContainerLog) -> None:
    output = log.open()
    before = time.time()
    os.write(output, b"first\n")
    until(lambda: printed(log), "the line is in the file")
    reader = StreamReader(log.folder)
    assert before * 1000 - 1 <= (reader.last_time() or 0) <= time.time() * 1000
    os.close(output)


def test_everything_is_in_the_file_when_the_log_is_finished(log: ContainerLog) -> None:
    for round_ in range(20):
        process = run(log, f"for n in range(2000): print({round_}, n)\nprint('the end', end='')")
        process.wait()
        log.finish()
        assert printed(log)[-1] == b"the end"
        assert tail_of(log, 2) == f"{round_} 1999\nthe end"
    assert len(printed(log)) == 20 * 2001


def tail_of(log: ContainerLog, lines: int) -> str:
    return log.tail(lines, 1000)


def test_what_a_killed_container_printed_last_is_kept(log: ContainerLog) -> None:
    process = run(log, "import os, signal; os.write(1, b'last words'); os.kill(os.getpid(), signal.SIGKILL)")
    assert process.wait() == -signal.SIGKILL
    log.finish()
    assert printed(log) == [b"last words"]


def test_finishing_does_not_wait_for_who_still_writes(log: ContainerLog) -> None:
    process = run(log, "while True: print('x' * 1000)")
    until(lambda: printed(log), "it prints")
    log.finish()
    assert process.wait(20) != 0, "its pipe has no reader any more"


def test_a_flood_neither_fills_the_disk_nor_grows_memory(log: ContainerLog, pump: Pump) -> None:
    process = run(log, "while True: print('y' * 99)")
    until(lambda: StreamReader(log.folder).start > 0, "the first segment is gone")
    before, begin = resident_bytes(), StreamReader(log.folder).end
    until(lambda: StreamReader(log.folder).end > begin + 20 * 2**20, "20 MB more have come")
    assert sum(path.stat().st_size for path in log.folder.glob("*.log")) < 4 * 2**20
    assert resident_bytes() < before + 8 * 2**20
    process.kill()
    process.wait()
    log.finish()
    assert set(printed(log)[1:-1]) == {b"y" * 99}
    assert repr(pump) == "<Pump: 0 streams, 0 pipes>"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_takes_a_quarter_of_a_core_at_most(log: ContainerLog) -> None:
    floods = [run(log, "while True: print('z' * 99)") for _ in range(8)]
    until(lambda: printed(log), "they print")
    used, began = time.process_time(), time.monotonic()
    time.sleep(1.5)  # a measure over a time, not a wait for something
    share = (time.process_time() - used) / (time.monotonic() - began)
    for flood in floods:
        flood.kill()
        flood.wait()
    assert share < 0.4


def test_a_flood_does_not_hold_back_the_lines_of_others(log: ContainerLog, pump: Pump, tmp_path: Path) -> None:
    flood = run(log, "while True: print('x' * 99)")
    other = ContainerLog(pump, Place(tmp_path / "wine", "AllTraffic/i-2"))
    output = other.open()
    slowest = 0.0
    for number in range(20):
        began = time.monotonic()
        os.write(output, b"%d\n" % number)
        until(lambda count=number + 1: len(printed(other)) == count, "the other's line is there")  # type: ignore[misc]
        slowest = max(slowest, time.monotonic() - began)
    flood.kill()
    flood.wait()
    os.close(output)
    assert slowest < 1.0


def test_two_writers_of_one_log_do_not_go_on_with_each_others_lines(log: ContainerLog) -> None:
    one, other = log.open(), log.open()
    os.write(one, b"half of one")
    until(lambda: StreamReader(log.folder).unfinished(), "the half is there")
    os.write(other, b"other\n")
    until(lambda: len(printed(log)) == 2, "both are there")
    os.write(one, b"the rest\n")
    for output in (one, other):
        os.close(output)
    log.finish()
    assert printed(log) == [b"half of one", b"other", b"the rest"]


def test_a_log_can_be_opened_anew_after_its_end(log: ContainerLog) -> None:
    for text in (b"before\n", b"after\n"):
        output = log.open()
        os.write(output, text)
        os.close(output)
        log.finish()
        log.finish()
    assert printed(log) == [b"before", b"after"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_may_open_the_devices_of_his_output(log: ContainerLog) -> None:
    output = log.open()
    code = "import os; os.setgroups([]); os.setgid(20000); os.setuid(20000); open('/proc/self/fd/1', 'w').write('mine')"
    subprocess.run([sys.executable, "-c", code], stdout=output, check=True)
    os.close(output)
    log.finish()
    assert printed(log) == [b"mine"]


def test_a_log_that_cannot_be_made_is_an_error_and_harms_no_other(
    log: ContainerLog, pump: Pump, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        ContainerLog(pump, Place(tmp_path / "file", "AllTraffic/i-2")).open()
    output = log.open()
    os.write(output, b"fine\n")
    os.close(output)
    log.finish()
    assert printed(log) == [b"fine"]


def test_a_stream_whose_folder_is_removed_is_lost_alone(log: ContainerLog, pump: Pump, tmp_path: Path) -> None:
    other = ContainerLog(pump, Place(tmp_path / "wine", "AllTraffic/i-2"))
    outputs = [log.open(), other.open()]
    for path in log.folder.iterdir():
        path.unlink()
    log.folder.rmdir()
    for output in outputs:
        os.write(output, b"here\n")
        os.close(output)
    until(lambda: printed(other), "the other's line is there")
    log.finish()
    assert printed(log) == []


def test_many_streams_come_and_go_while_others_print(pump: Pump, tmp_path: Path) -> None:
    def live(number: int) -> None:
        for life in range(10):
            log = ContainerLog(pump, Place(tmp_path / "wine", f"AllTraffic/i-{number}-{life}"))
            output = log.open()
            os.write(output, b"".join(b"%d\n" % line for line in range(500)))
            os.close(output)
            log.finish()
            assert printed(log) == [b"%d" % line for line in range(500)]

    async def all_live() -> None:
        await asyncio.gather(*(asyncio.to_thread(live, number) for number in range(8)))

    asyncio.run(all_live())
    assert repr(pump) == "<Pump: 0 streams, 0 pipes>"


def test_closing_ends_the_thread_and_keeps_what_was_printed(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    pump = Pump(BOUNDS, SystemClock())
    log = ContainerLog(pump, Place(tmp_path / "wine", "AllTraffic/i-1"))
    output = log.open()
    os.write(output, b"left")
    pump.close()
    os.close(output)
    assert printed(log) == [b"left"]
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "logs"]
