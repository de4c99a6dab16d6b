"""The access log: what a line has, and that nobody waits for the disk."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import until

from moorage.gateway import access_log
from moorage.gateway.access_log import AccessLog, Line, encode

LINE: Line = (
    1_767_225_600.25,
    "4d0b9c9e-0000-4000-8000-000000000001",
    "000000000000",
    "ep",
    "a",
    "i-1",
    "InvokeEndpoint",
    200,
    200,
    12,
    34,
    0.0123456,
    0.01,
    "127.0.0.1",
    "arn:aws:iam::000000000000:user/ann",
    None,
)


def line(number: int, size: int = 0) -> Line:
    return (*LINE[:1], f"{number:06}{'x' * size}", *LINE[2:])


def numbers(path: Path) -> list[int]:
    return [int(json.loads(text)["request_id"][:6]) for text in path.read_text().splitlines()]


def opened(path: Path, most_bytes: int = 2**20, most_files: int = 3) -> AccessLog:
    return AccessLog(path, most_bytes=most_bytes, most_files=most_files)


def test_line_says_what_happened() -> None:
    assert json.loads(encode(LINE)) == {
        "time": "2026-01-01T00:00:00.250Z",
        "request_id": "4d0b9c9e-0000-4000-8000-000000000001",
        "account": "000000000000",
        "endpoint": "ep",
        "variant": "a",
        "instance": "i-1",
        "operation": "InvokeEndpoint",
        "status": 200,
        "model_status": 200,
        "bytes_in": 12,
        "bytes_out": 34,
        "total_ms": 12.346,
        "model_ms": 10.0,
        "client": "127.0.0.1",
        "user": "arn:aws:iam::000000000000:user/ann",
        "error": None,
    }


def test_request_that_nobody_took_has_nulls() -> None:
    refused = (*LINE[:2], None, None, None, None, None, 403, None, 0, 40, 0.0001, None, "::1", None, "AccessDenied")
    found = json.loads(encode(refused))
    assert (found["endpoint"], found["model_ms"], found["user"], found["error"]) == (None, None, None, "AccessDenied")


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text().partition("## Access log")[2]
    assert [name for name in access_log.FIELDS if f"`{name}`" not in page] == []


def test_lines_are_in_the_file_in_order_when_it_is_closed(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", most_bytes=2**30)
    for number in range(5_000):
        log.offer(line(number))
    log.close()
    assert numbers(tmp_path / "log") == list(range(5_000))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert repr(log) == "<AccessLog: 0 lines wait, 0 dropped>"


def test_full_file_is_moved_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    size = len(encode(line(0, 100)))
    log = opened(tmp_path / "log", most_bytes=10 * size, most_files=2)
    for number in range(47):
        log.offer(line(number, 100))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert [numbers(tmp_path / name) for name in ("log.2", "log.1", "log")] == [
        list(range(20, 30)),
        list(range(30, 40)),
        list(range(40, 47)),
    ]


def test_without_files_to_keep_it_is_begun_anew(tmp_path: Path) -> None:
    size = len(encode(line(0, 100)))
    log = opened(tmp_path / "log", most_bytes=10 * size, most_files=0)
    for number in range(15):
        log.offer(line(number, 100))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert numbers(tmp_path / "log") == list(range(10, 15))


def test_line_longer_than_a_file_is_written_alone(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", most_bytes=50)
    log.offer(line(1))
    log.offer(line(2))
    log.close()
    assert (numbers(tmp_path / "log.1"), numbers(tmp_path / "log")) == ([1], [2])


async def test_file_that_somebody_has_moved_is_made_anew(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    log.offer(line(1))
    await until(lambda: (tmp_path / "log").exists() and numbers(tmp_path / "log") == [1])
    (tmp_path / "log").rename(tmp_path / "moved")
    log.offer(line(2))
    log.close()
    assert (numbers(tmp_path / "moved"), numbers(tmp_path / "log")) == ([1], [2])


def test_two_gateways_write_one_file_and_lose_nothing(tmp_path: Path) -> None:
    size = len(encode(line(0, 100)))
    logs = [opened(tmp_path / "log", most_bytes=100 * size, most_files=99) for _ in range(2)]

    def write(log: AccessLog, first: int) -> None:
        for number in range(first, first + 2_000):
            log.offer(line(number, 100))
        log.close()

    threads = [threading.Thread(target=write, args=(log, 2_000 * place)) for place, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [number for path in tmp_path.iterdir() for number in numbers(path)]
    assert sorted(found) == list(range(4_000))


class StuckFile:
    """A disk that does not come back before it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.busy = threading.Event()
        self.written = 0

    def __call__(self, *_: Any) -> "StuckFile":
        return self

    def write(self, lines: list[bytes]) -> None:
        self.busy.set()
        assert self.let_go.wait(10)
        self.written += len(lines)

    def close(self) -> None:
        """Nothing is open."""


async def test_stuck_disk_drops_lines_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = StuckFile()
    monkeypatch.setattr(access_log, "_File", disk)
    monkeypatch.setattr(access_log, "MOST_WAITING", 10)
    log = opened(tmp_path / "log")
    log.offer(line(0))
    await until(disk.busy.is_set)
    for number in range(15):
        log.offer(line(number))
    assert repr(log) == "<AccessLog: 10 lines wait, 5 dropped>"
    log.close(seconds=0.05)  # it does not wait for the disk
    disk.let_go.set()
    log.close()
    assert (disk.written, log.dropped) == (11, 5)


async def test_file_that_cannot_be_written_is_said_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    log = opened(tmp_path / "folder" / "log")
    (tmp_path / "folder").rmdir()
    log.offer(line(1))
    await until(lambda: log.dropped == 1)
    log.offer(line(2))
    await until(lambda: log.dropped == 2)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["the access log cannot be written"]
    (tmp_path / "folder").mkdir()
    log.offer(line(3))
    log.close()
    assert numbers(tmp_path / "folder" / "log") == [3]


def test_line_that_the_disk_took_half_of_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write: Callable[[int, Any], int] = os.write
    calls = iter(["half", "full"])

    def nearly_full(descriptor: int, content: Any) -> int:
        match next(calls, ""):
            case "half":
                return write(descriptor, bytes(content)[:20])
            case "full":
                raise OSError(28, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", nearly_full)
    file = access_log._File(tmp_path / "log", 2**20, 1)
    with pytest.raises(OSError, match="No space"):
        file.write([encode(line(1))])
    file.write([encode(line(2)), encode(line(3))])
    file.close()
    half, *whole = (tmp_path / "log").read_text().splitlines()
    assert (len(half), [int(json.loads(text)["request_id"]) for text in whole]) == (20, [2, 3])
