"""The supervisor over tiny fake processes: real forks, real signals."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.product import alive, descendants, wait_until

from moorage.base.data_dir import running_server
from moorage.base.settings import run_dir_of
from moorage.engine.cgroups import GroupLimits, groups_of
from moorage.supervisor.places import UnusablePlace, first_key, need_room
from moorage.supervisor.terminal import TerminalHandler

FAKE_SERVER = Path(__file__).with_name("fake_server.py")


@dataclass
class Server:
    """A fake server and what it wrote."""

    process: subprocess.Popen[str]
    data_dir: Path
    run_dir: Path

    def describe(self) -> dict[str, Any] | None:
        return running_server(self.data_dir)

    def roles(self) -> dict[str, int]:
        return {row["role"]: row["pid"] for row in json.loads((self.run_dir / "processes.json").read_text())}

    def ready(self) -> "Server":
        wait_until(self.describe, within=10, what="the server is ready")
        roles = ("control", "neighbours")
        wait_until(
            lambda: all((self.data_dir / f"{role}.up").exists() for role in roles), within=10, what="all roles are up"
        )
        return self

    def end(self) -> tuple[str, str]:
        return self.process.communicate(timeout=15)


def nobody_lives(pids: set[int]) -> bool:
    return not any(map(alive, pids))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(kind: str = "good", port: int = 0, **environment: str) -> Server:
        data_dir, run_dir = tmp_path / "data", tmp_path / "run"
        process = subprocess.Popen(
            [sys.executable, str(FAKE_SERVER), str(data_dir), str(port), kind],
            env={**os.environ, "FAKE_RUN_DIR": str(run_dir), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        servers.append(Server(process, data_dir, run_dir))
        return servers[-1]

    yield begin
    for server in servers:
        family = descendants(server.process.pid)
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()
        wait_until(partial(nobody_lives, family), within=10, what="nobody is left")


def test_children_stop_in_order_and_nothing_is_left(start: Callable[..., Server]) -> None:
    server = start().ready()
    family = descendants(server.process.pid)
    server.process.send_signal(signal.SIGTERM)
    output, errors = server.end()
    assert (server.process.returncode, errors) == (0, "")
    assert (server.data_dir / "stopped").read_text().split() == ["control", "node", "neighbours"]
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in output
    assert not [pid for pid in family if alive(pid)]
    assert not server.run_dir.exists()
    assert server.describe() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_stop_it_too(start: Callable[..., Server], number: signal.Signals) -> None:
    server = start().ready()
    os.killpg(server.process.pid, number)
    server.end()
    assert server.process.returncode == 0
    assert (server.data_dir / "stopped").read_text().split() == ["control", "node", "neighbours"]


def test_on_a_terminal_the_stop_ends_with_a_line_of_its_own(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, str(FAKE_SERVER), str(tmp_path / "data"), "0", "good"],
        env={**os.environ, "FAKE_RUN_DIR": str(tmp_path / "run")},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        wait_until(partial(running_server, tmp_path / "data"), within=10, what="the server is ready")
        process.send_signal(signal.SIGINT)
        said = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while more := os.read(ours, 4096):
                said += more
    os.close(ours)
    assert said.endswith(b"\r\nstopped\r\n")


def test_a_dead_child_is_started_again_at_once(start: Callable[..., Server]) -> None:
    server = start().ready()
    before = server.roles()
    os.kill(before["control"], signal.SIGKILL)
    wait_until(
        lambda: server.roles().get("control", before["control"]) != before["control"], within=1, what="control is back"
    )
    after = server.roles()
    assert {role for role in before if before[role] != after[role]} == {"control"}
    server.process.terminate()
    assert "control ended (killed by SIGKILL) and is started again" in server.end()[1]


def test_children_die_with_a_killed_supervisor(start: Callable[..., Server]) -> None:
    server = start().ready()
    family = descendants(server.process.pid)
    server.process.kill()
    wait_until(lambda: not any(map(alive, family)), within=5, what="the children are dead")


def test_a_start_after_a_kill_waits_for_the_old_processes_and_works(start: Callable[..., Server]) -> None:
    first = start().ready()
    first.process.kill()
    second = start()
    wait_until(
        lambda: (second.describe() or {}).get("pid") == second.process.pid, within=10, what="the second is ready"
    )


def test_a_second_server_on_the_same_folder_is_told_who_runs_there(start: Callable[..., Server]) -> None:
    first = start().ready()
    second = start()
    errors = second.end()[1]
    assert second.process.returncode == 1
    assert f"already runs on {first.data_dir}: process {first.process.pid}, http://127.0.0.1:" in errors


def test_a_port_in_use_is_one_clear_sentence(start: Callable[..., Server], tmp_path: Path) -> None:
    first = start().ready()
    url = (first.describe() or {})["url"]
    port = int(url.rpartition(":")[2])
    second = subprocess.run(
        [sys.executable, str(FAKE_SERVER), str(tmp_path / "other"), str(port), "good"],
        env={**os.environ, "FAKE_RUN_DIR": str(tmp_path / "otherrun")},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"Error: Port {port} is in use by process ")
    assert "--port 0" in second.stderr
    assert not (tmp_path / "other").exists()


def test_a_folder_that_was_there_stays_when_the_port_is_in_use(start: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = start(port=taken.getsockname()[1])
        assert "is in use by process" in server.end()[1]
    assert [path.name for path in server.data_dir.iterdir()] == ["lock"]


@pytest.fixture
def pair(start: Callable[..., Server]) -> Server:
    """A server with two gateways."""
    return start(FAKE_GATEWAYS="2").ready()


def gateways_of(server: Server) -> list[int]:
    processes = json.loads((server.run_dir / "processes.json").read_text())
    return [row["pid"] for row in processes if row["role"] == "gateway"]


def port_of(server: Server) -> int:
    return int((server.describe() or {})["url"].rpartition(":")[2])


def ask(connection: socket.socket) -> int:
    """Ask for the pid of the gateway that answers."""
    with connection:
        connection.settimeout(10)
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = b""
        while more := connection.recv(1000):
            answer += more
    return int(answer.rpartition(b"\r\n")[2])


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def connect(server: Server, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(count)]


def test_connections_are_dealt_out_among_the_gateways(pair: Server) -> None:
    assert {ask(connection) for connection in connect(pair, 64)} == set(gateways_of(pair))


def test_each_gateway_has_a_listening_socket_of_its_own(pair: Server) -> None:
    first, second = (listening_sockets(pid, port_of(pair)) for pid in gateways_of(pair))
    assert (len(first), len(second)) == (1, 1)
    assert first != second
    assert listening_sockets(pair.process.pid, port_of(pair)) == first | second
    assert all(listening_sockets(pid, port_of(pair)) == set() for role, pid in pair.roles().items() if role == "node")


def test_what_waits_for_a_dead_gateway_is_answered_by_its_successor(pair: Server) -> None:
    before = gateways_of(pair)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(map(is_stopped, before)), within=5, what="both stand still")
    waiting = connect(pair, 32)  # in the queues of both: nobody accepts
    os.kill(before[0], signal.SIGKILL)
    os.kill(before[1], signal.SIGCONT)
    answered = {ask(connection) for connection in waiting}
    after = gateways_of(pair)
    assert answered == set(after)
    assert before[1] in after
    assert before[0] not in after


def test_gateways_drain_at_the_same_time(pair: Server) -> None:
    pair.process.terminate()
    assert pair.end()[1] == ""
    assert pair.process.returncode == 0
    assert len([*pair.data_dir.glob("*.drains")]) == 2


@pytest.mark.parametrize("gateways", ["1", "2"])
def test_another_server_is_not_let_in_on_the_port_of_several_gateways(
    pair: Server, tmp_path: Path, gateways: str
) -> None:
    second = subprocess.run(
        [sys.executable, str(FAKE_SERVER), str(tmp_path / "other"), str(port_of(pair)), "good"],
        env={**os.environ, "FAKE_RUN_DIR": str(tmp_path / "otherrun"), "FAKE_GATEWAYS": gateways},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"Error: Port {port_of(pair)} is in use by process ")


def listening_sockets(pid: int, port: int) -> set[str]:
    """Give the inodes of the sockets that a process has open and that listen on a port (proc(5))."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {row[9] for row in table if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    names = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
    return {name[8:-1] for name in names if name.startswith("socket:[")} & listening


def test_who_never_gets_ready_says_why(start: Callable[..., Server]) -> None:
    server = start("broken")
    errors = server.end()[1]
    assert server.process.returncode == 1
    assert "The gateway process ended 3 times during the start." in errors
    assert "RuntimeError: the state cannot be read" in errors


def test_who_does_not_stop_in_time_is_killed_with_its_descendants(start: Callable[..., Server]) -> None:
    server = start("stubborn", FAKE_IMPATIENT="1").ready()
    wait_until(lambda: len(descendants(server.process.pid)) == 6, within=5, what="the grandchild runs")
    family = descendants(server.process.pid)
    server.process.terminate()
    assert "node did not stop in time and is killed" in server.end()[1]
    assert not [pid for pid in family if alive(pid)]


def test_a_second_ctrl_c_hurries(start: Callable[..., Server]) -> None:
    server = start("stubborn").ready()
    server.process.send_signal(signal.SIGINT)
    wait_until((server.data_dir / "stopped").exists, within=5, what="the stop has begun")
    server.process.send_signal(signal.SIGINT)
    server.end()
    assert server.process.returncode == 0


def test_a_long_stop_says_what_it_waits_for(start: Callable[..., Server]) -> None:
    server = start("stubborn").ready()
    server.process.send_signal(signal.SIGINT)
    assert server.process.stderr is not None
    said = server.process.stderr.readline()
    server.process.send_signal(signal.SIGINT)
    server.end()
    assert said == "supervisor: node has up to 59 s to finish its work; Ctrl-C hurries\n"


def test_a_killed_server_s_control_groups_are_swept(start: Callable[..., Server], tmp_path: Path) -> None:
    places = tmp_path / "tmp"
    places.mkdir()
    killed = start("ephemeral", TMPDIR=str(places))
    left = wait_until(lambda: [*places.glob("*/server.json")], within=10, what="the first runs")[0].parent
    groups = groups_of(run_dir_of(left))
    if not groups.controllers:
        groups.close()
        pytest.skip("control groups cannot be written here")
    groups.make("i-left", GroupLimits(2**30, 1, 100))
    killed.process.kill()
    killed.end()
    start("ephemeral", TMPDIR=str(places))
    wait_until(lambda: not left.exists(), within=10, what="what it left is swept")
    assert list(Path("/sys/fs/cgroup").rglob(run_dir_of(left).name)) == []


def test_a_full_disk_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_000))
    with pytest.raises(UnusablePlace, match=r"The disk of .* is full \(12 kB are left\)\. Make room"):
        need_room(tmp_path)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusablePlace, match=r"gone/credentials.json cannot be written: No such file or directory\."):
        first_key(tmp_path / "gone", "000000000000")


def test_a_secret_is_never_taken_for_an_option(tmp_path: Path) -> None:
    secrets = [first_key(folder, "0" * 12)["secret_access_key"] for folder in _folders(tmp_path, 30)]
    assert all(len(secret) == 40 and secret.isalnum() for secret in secrets)


def _folders(parent: Path, count: int) -> Iterator[Path]:
    for number in range(count):
        folder = parent / str(number)
        folder.mkdir()
        yield folder


def test_a_warning_on_the_terminal_names_its_cause() -> None:
    reader, writer = os.pipe()
    fault = OSError(28, "No space left on device")
    record = logging.makeLogRecord({"msg": "request 1 failed", "exc_info": (OSError, fault, None), "levelno": 40})
    TerminalHandler(writer, "control").emit(record)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == "control: request 1 failed: OSError: [Errno 28] No space left on device\n"


def test_a_long_warning_is_shown_in_brief() -> None:
    reader, writer = os.pipe()
    text = "endpoint wine: failed\nTraceback\n  File x\nKeyError: 'x'"
    record = logging.makeLogRecord({"msg": text, "in_brief": "endpoint wine: failed", "levelno": 30})
    TerminalHandler(writer, "control").emit(record)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == "control: endpoint wine: failed\n"


def test_an_ephemeral_server_leaves_nothing_and_the_next_one_sweeps_what_a_killed_one_left(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    places = tmp_path / "tmp"
    places.mkdir()
    killed = start("ephemeral", TMPDIR=str(places))
    left = wait_until(lambda: [*places.glob("*/server.json")], within=10, what="the first runs")[0].parent
    killed.process.kill()
    killed.end()
    second = start("ephemeral", TMPDIR=str(places))
    folder = wait_until(
        lambda: [path.parent for path in places.glob("*/server.json") if path.parent != left],
        within=10,
        what="the second runs",
    )[0]
    assert not left.exists()
    assert "secret_access_key" in json.loads((folder / "credentials.json").read_text())
    second.process.terminate()
    second.end()
    assert [*places.iterdir()] == []


def test_what_belongs_to_the_server_is_private(start: Callable[..., Server]) -> None:
    server = start().ready()
    secrets = server.data_dir / "credentials.json"
    assert [oct(path.stat().st_mode & 0o777) for path in (server.data_dir, server.run_dir, secrets)] == [
        "0o700",
        "0o700",
        "0o600",
    ]


def test_the_account_of_the_data_folder_stays(start: Callable[..., Server]) -> None:
    server = start().ready()
    server.process.terminate()
    server.end()
    key = json.loads((server.data_dir / "credentials.json").read_text())
    (server.data_dir / "credentials.json").write_text(json.dumps({**key, "account": "111111111111"}))
    again = start().ready()
    assert (again.describe() or {})["account"] == "111111111111"


def test_exit_is_quiet_when_the_output_is_not_read(start: Callable[..., Server]) -> None:
    server = start().ready()
    for output in (server.process.stdout, server.process.stderr):
        assert output is not None
        output.close()
    node = server.roles()["node"]
    os.kill(node, signal.SIGKILL)
    wait_until(lambda: server.roles().get("node", node) != node, within=5, what="node is back")
    server.process.terminate()
    assert server.process.wait(10) == 0
