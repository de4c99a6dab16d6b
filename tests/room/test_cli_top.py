"""``moorage top`` against a fake server: its table, its lines, and its picture in a terminal of its own."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.room.fake_api import Answer, Api, fake_api

from moorage.cli.main import cli
from moorage.cli.top import frame, lines_of

TOP = "GET /_moorage/top"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "data"))
    with fake_api(tmp_path) as api:
        yield api
        assert api.unverified == []


def moorage(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def row(variant: str = "a", **members: Any) -> dict[str, Any]:
    return {
        "endpoint": "wine",
        "variant": variant,
        "region": "us-east-1",
        "requests_per_second": 1234.5,
        "model_p50_ms": 1.234,
        "model_p99_ms": 12.345,
        "total_p50_ms": 1.5,
        "total_p99_ms": 123.45,
        "errors_4xx_per_second": 0.0,
        "errors_5xx_per_second": 0.2,
        "model_errors_per_second": 0.25,
        "throttled_per_second": 0.0,
        "in_flight": 7,
        "instances_ready": 2,
        **members,
    }


IDLE = row(
    "b",
    requests_per_second=0.0,
    model_p50_ms=None,
    model_p99_ms=None,
    total_p50_ms=None,
    total_p99_ms=None,
    errors_5xx_per_second=0.0,
    model_errors_per_second=0.0,
    in_flight=0,
    instances_ready=1,
)


def page(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"seconds": 5.0, "variants": list(rows)}


def test_once_is_a_table_of_all_variants(api: Api) -> None:
    api.will(TOP, page(row(), IDLE))
    assert moorage("top", "--once").stdout.splitlines() == [
        "ENDPOINT  VARIANT  REQ/S  MODEL p50   p99  TOTAL p50  p99  4XX/S  5XX/S  ERR/S  BUSY  READY",
        "wine      a        1,234       1.23  12.3       1.50  123      0   0.20   0.25     7      2",
        "wine      b            0          -     -          -    -      0      0      0     0      1",
    ]


def test_once_as_json_is_the_list(api: Api) -> None:
    api.will(TOP, page(row(), IDLE))
    assert json.loads(moorage("top", "--once", "--output", "json").stdout) == [row(), IDLE]


def test_without_a_terminal_lines_follow_each_other_until_the_server_ends(api: Api) -> None:
    api.will(TOP, page(row()), page(IDLE), Answer({"Message": "down"}, 503))
    result = moorage("top", "--output", "json")
    assert [json.loads(line)[0]["variant"] for line in result.stdout.splitlines()] == ["a", "b"]
    assert result.exit_code == 1


def test_without_a_terminal_each_line_of_the_table_has_the_time(api: Api) -> None:
    api.will(TOP, page(row()), Answer({"Message": "down"}, 503))
    lines = moorage("top").stdout.splitlines()
    assert [line[8:20] for line in lines] == ["  ENDPOINT  ", "  wine      "]


def test_server_without_endpoints_says_so(api: Api) -> None:
    api.will(TOP, page())
    assert moorage("top", "--once").stdout == "No endpoint takes invocations.\n"


def test_region_is_named_where_there_are_several() -> None:
    found = lines_of(page(row(), row(region="eu-west-1")))
    assert [line.split("  ")[0] for line in found[1:]] == ["wine (us-east-1)", "wine (eu-west-1)"]


def test_picture_fits_the_terminal_and_keeps_the_busiest() -> None:
    rows = [row(f"v{number:02}", requests_per_second=float(number)) for number in range(30)]
    shown = frame(page(*rows), "", columns=60, rows=10)
    lines = shown.removeprefix("\x1b[H").removesuffix("\x1b[J").split("\r\n")
    texts = [line.removesuffix("\x1b[K") for line in lines]
    assert len(texts) <= 10
    assert max(map(len, texts)) <= 60
    assert texts[0] == "moorage top    1 endpoints    435 requests/s    210 in flight"[:60]
    assert [text.split()[1] for text in texts[3:9]] == [f"v{number}" for number in range(24, 30)]
    assert texts[-1] == "... and 24 more with less to do"


def test_picture_tells_of_a_server_that_does_not_answer_and_keeps_what_was_there() -> None:
    shown = frame(page(row()), "The server is being restarted.", columns=200, rows=20)
    assert "The server is being restarted." in shown
    assert "wine" in shown


class Terminal:
    """``moorage top`` in a terminal of its own."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moorage", "top"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "COLUMNS": "120", "LINES": "30"},
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65_536).decode()
                except OSError:  # all of it has been read, and nobody is there any more
                    assert text in self.seen, self.seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(api: Api) -> Iterator[Terminal]:
    api.will(TOP, Answer({"Message": "restarting"}, 503), page(row(), IDLE))
    made = Terminal()
    yield made
    made.close()


def test_terminal_is_drawn_over_and_given_back_after_q(terminal: Terminal) -> None:
    terminal.read_until("restarting")
    terminal.read_until("1,234")
    terminal.read_until("b            0")
    os.write(terminal.master, b"q")
    terminal.read_until("\x1b[?1049l")
    assert terminal.process.wait(10) == 0


def test_terminal_is_given_back_after_ctrl_c(terminal: Terminal) -> None:
    terminal.read_until("1,234")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("\x1b[?1049l")
    assert terminal.process.wait(10) == 0
