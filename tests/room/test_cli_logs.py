"""``moorage logs`` on streams as the node agent lays them down; no server is needed."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.room.fake_api import KEY, fake_api
from tests.support.logs import MOMENT, Stream

from moorage.base.clock import SystemClock
from moorage.cli.main import cli


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def logs(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["logs", *arguments])


def lines(*arguments: str) -> list[str]:
    result = logs(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@contextmanager
def following(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-u", "-m", "moorage", "logs", *arguments, "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_lines_of_several_instances_come_by_time_and_with_their_names(data_dir: Path) -> None:
    Stream(data_dir, "a/i-1").say("one").say("four", at=MOMENT + 30).begin("not done", at=MOMENT + 40)
    Stream(data_dir, "b/i-2").say("two", at=MOMENT + 10).say("three", at=MOMENT + 20)
    assert lines("wine") == ["a/i-1 | one", "b/i-2 | two", "b/i-2 | three", "a/i-1 | four", "a/i-1 | not done"]
    assert lines("wine/a") == ["one", "four", "not done"]
    assert lines("wine/b/i-2") == ["two", "three"]


def test_times_are_shown_when_asked_for(data_dir: Path) -> None:
    Stream(data_dir, "a/i-1").say("one").say("two", at=MOMENT + 5)
    Stream(data_dir, "b/i-2")
    assert lines("wine/a", "--timestamps") == ["2026-11-27T17:10:44.000Z one", "2026-11-27T17:10:44.005Z two"]
    assert lines("wine", "-t")[0] == "a/i-1 | 2026-11-27T17:10:44.000Z one"


def test_since_leaves_out_what_is_older(data_dir: Path) -> None:
    now = int(SystemClock().now() * 1000)
    stream = Stream(data_dir, "a/i-1").say("long ago", at=now - 3_600_000).say("lately", at=now - 60_000)
    stream.begin("now", at=now)
    assert lines("wine", "--since", "10m") == ["lately", "now"]
    assert lines("wine", "--since", "2h") == ["long ago", "lately", "now"]
    assert lines("wine", "--since", "2999-01-01") == []
    assert lines("wine", "--since", "2026-01-01T00:00:00Z")[0] == "long ago"
    result = logs("wine", "--since", "yesterday")
    assert (result.exit_code, "neither a duration" in result.stderr) == (2, True)


def test_tail_gives_the_last_lines_of_all_instances_together(data_dir: Path) -> None:
    one, two = Stream(data_dir, "a/i-1"), Stream(data_dir, "b/i-2")
    for number in range(50):
        (one if number % 3 else two).say(str(number), at=MOMENT + number)
    assert [line.split()[-1] for line in lines("wine", "--tail", "4")] == ["46", "47", "48", "49"]
    assert lines("wine", "-n", "0") == []


def test_rotated_files_are_read_in_order(data_dir: Path) -> None:
    stream = Stream(data_dir, "a/i-1", segment_bytes=500)
    for number in range(200):
        stream.say(str(number))
    assert len(list(stream.place.folder.glob("*.log"))) > 5
    assert lines("wine") == [str(number) for number in range(200)]


def test_following_gives_new_lines_new_instances_and_rotated_files(data_dir: Path) -> None:
    stream = Stream(data_dir, "a/i-1", segment_bytes=200, segments=1).say("first")
    with following("wine") as process:
        assert next_line(process) == "first\n"
        stream.begin("sec").say("ond")
        assert next_line(process) == "second\n"
        Stream(data_dir, "a/i-2").say("of the new one")
        assert next_line(process) == "a/i-2 | of the new one\n"
        for number in range(30):
            stream.say(f"line {number}")
            assert next_line(process) == f"a/i-1 | line {number}\n"
        assert not (stream.place.folder / f"{0:015d}.log").exists()


def test_following_can_begin_before_there_is_a_line_of_the_variant(data_dir: Path) -> None:
    Stream(data_dir, "a/i-1").say("of a")
    with following("wine/b") as process:
        Stream(data_dir, "b/i-2").say("of b")
        assert next_line(process) == "of b\n"


def test_what_a_model_prints_goes_through_unchanged(data_dir: Path) -> None:
    raw = b"\x1b[31mred\x1b[0m \xff 10%\r100%"
    stream = Stream(data_dir, "a/i-1")
    stream._writer.write(raw + b"\n", MOMENT)
    assert logs("wine").stdout_bytes == raw + b"\n"


def test_each_instance_has_its_colour_on_a_terminal(data_dir: Path) -> None:
    Stream(data_dir, "a/i-1").say("one")
    Stream(data_dir, "b/i-2").say("two")
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-m", "moorage", "logs", "wine"], stdout=theirs, check=True)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert shown == "\x1b[36ma/i-1 | \x1b[0mone\r\n\x1b[33mb/i-2 | \x1b[0mtwo\r\n"


def test_endpoints_of_one_name_do_not_mix(tmp_path: Path, data_dir: Path) -> None:
    with fake_api(tmp_path):
        pass
    for account, region in (
        (KEY["account"], "us-east-1"),
        ("222222222222", "us-east-1"),
        ("222222222222", "eu-west-1"),
    ):
        Stream(data_dir, "a/i-1", account=account, region=region).say(f"{account} {region}")
    assert lines("wine") == [f"{KEY['account']} us-east-1"], "the installation's own account"
    assert lines("wine", "--region", "eu-west-1") == ["222222222222 eu-west-1"]
    result = logs("wine", "--account", "222222222222")
    assert result.exit_code == 1
    assert "222222222222 in eu-west-1, 222222222222 in us-east-1. Add --account or --region." in result.stderr
    assert lines("wine", "--account", "222222222222", "--region", "us-east-1") == ["222222222222 us-east-1"]


def test_an_endpoint_without_logs_is_told_with_those_that_have_some(data_dir: Path) -> None:
    Stream(data_dir, "a/i-1", endpoint="beer").say("x")
    result = logs("wine")
    assert result.exit_code == 1
    assert "There are no logs of wine in" in result.stderr
    assert "Endpoints with logs: beer" in result.stderr
    assert "There are no logs of beer/b in" in logs("beer/b").stderr


@pytest.mark.parametrize("what", ["../../etc", "a/b/c/d/e", "", "wine/.."])
def test_logs_never_leave_their_folder(what: str) -> None:
    assert logs(what).exit_code == 2
