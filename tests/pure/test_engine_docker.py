"""What the docker engine decides, purely."""

import base64
import io
import json
import signal
import tarfile
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from moorage.engine.credentials import Credentials
from moorage.engine.docker import configuration, daemon, empty
from moorage.engine.docker.api import make_request
from moorage.engine.docker.configuration import Surroundings, make_configuration
from moorage.engine.docker.daemon import Address, Daemon, NoDaemon
from moorage.engine.docker.images import Amounts, make_authorization
from moorage.engine.docker.network import bridge_name, make_rules, read_resolvers
from moorage.engine.docker.output import Lines
from moorage.engine.environments import Environment
from moorage.engine.exit import read_exit_code
from moorage.engine.launch import ImageLaunch, ServingLaunch

DOCKERD = Daemon(Address("/var/run/docker.sock"), "dockerd", "20.10.24", "1.41")
PODMAN = replace(DOCKERD, kind="podman", version="4.3.1")


class NoLog:
    def open(self) -> int:
        raise OSError("nothing is written in these tests")


LAUNCH = ImageLaunch(
    instance_id="i-1",
    image="team/model@sha256:1",
    model=Path("/models/m"),
    variables={"A": "1"},
    memory_bytes=2**30,
    vcpus=2,
    socket=Path("/run/i-1.sock"),
    log=NoLog(),
    hostname="container-0.local",
)
AROUND = Surroundings(DOCKERD, "here", network="moorage-here", published=False, nofile=20_000)


def body(launch: ImageLaunch = LAUNCH, around: Surroundings = AROUND, image: dict[str, Any] | None = None) -> Any:
    folders = configuration.writable_folders(launch, image or {})
    working_folder = configuration.working_folder(launch, image or {})
    return make_configuration(launch, "team/model@sha256:1", around, folders, working_folder=working_folder)


# --- configuration


def test_serve_takes_the_place_of_the_command_and_nothing_that_of_the_entrypoint() -> None:
    made = body()
    assert made["Cmd"] == ["serve"]
    assert "Entrypoint" not in made
    assert "WorkingDir" not in made


def test_memory_may_not_go_on_in_swap() -> None:
    limits = body()["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 2**30


def test_model_is_read_only() -> None:
    (mount,) = body()["HostConfig"]["Mounts"]
    assert mount == {"Type": "bind", "Source": "/models/m", "Target": "/opt/ml/model", "ReadOnly": True}


def test_container_is_never_privileged_and_gains_nothing() -> None:
    made = body()["HostConfig"]
    assert made["Privileged"] is False
    assert "no-new-privileges" in made["SecurityOpt"]
    assert "CapAdd" not in made


def test_selinux_lets_a_container_read_its_model() -> None:
    made = body(around=replace(AROUND, daemon=replace(DOCKERD, confines=True)))
    assert "label=disable" in made["HostConfig"]["SecurityOpt"]


def test_container_without_volume_writes_where_its_daemon_keeps_it() -> None:
    assert body()["HostConfig"]["ReadonlyRootfs"] is False


def test_container_with_volume_writes_nowhere_else() -> None:
    made = body(
        replace(LAUNCH, volume=Path("/volumes/i-1")),
        image={"Config": {"WorkingDir": "/srv/app", "Volumes": {"/data": {}}}},
    )
    assert made["HostConfig"]["ReadonlyRootfs"] is True
    targets = [mount["Target"] for mount in made["HostConfig"]["Mounts"]]
    assert {"/tmp", "/var/tmp", "/run", "/root", "/home", "/opt/ml", "/srv/app", "/data"} <= set(targets)
    assert targets[-1] == "/opt/ml/model"
    assert len(targets) == len(set(targets))


def test_volume_of_a_folder_is_a_bind_that_the_daemon_fills() -> None:
    launch = replace(LAUNCH, volume=Path("/volumes/i-1"))
    folder = next(one for one in configuration.writable_folders(launch, {}) if one.target == "/var/log")
    made = configuration.make_volume(launch, folder, "here")
    assert made["Name"] == "moorage-i-1-var-log"
    assert made["DriverOpts"] == {"type": "none", "o": "bind", "device": "/volumes/i-1/var-log"}
    assert made["Labels"]["moorage.installation"] == "here"


@pytest.mark.parametrize(
    ("working", "core_bytes", "expected"),
    [("/", 1, "/tmp"), ("", 1, "/tmp"), ("/opt/ml/model/code", 1, "/tmp"), ("/app", 1, None), ("/", 0, None)],
)
def test_core_file_has_a_working_folder_that_can_be_written(
    working: str, core_bytes: int, expected: str | None
) -> None:
    launch = replace(LAUNCH, volume=Path("/volumes/i-1"), core_bytes=core_bytes)
    assert body(launch, image={"Config": {"WorkingDir": working}}).get("WorkingDir") == expected


def test_published_container_is_reached_at_the_loopback_only() -> None:
    made = body(around=replace(AROUND, published=True))
    assert made["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert body()["HostConfig"]["PortBindings"] == {}


def test_podman_is_given_all_the_limits_that_it_would_otherwise_forget() -> None:
    def names(around: Surroundings) -> list[str]:
        return [limit["Name"] for limit in body(around=around)["HostConfig"]["Ulimits"]]

    assert names(AROUND) == ["core"]
    assert names(replace(AROUND, daemon=PODMAN)) == ["core", "nofile", "nproc"]


def test_gpus_are_asked_for_as_each_daemon_wants_it() -> None:
    assert "DeviceRequests" not in body()["HostConfig"]
    (request,) = configuration.with_gpus(body(), 2, DOCKERD)["HostConfig"]["DeviceRequests"]
    assert request == {"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}
    (request,) = configuration.with_gpus(body(), 2, PODMAN)["HostConfig"]["DeviceRequests"]
    assert request == {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}


def test_podman_that_would_forget_gpus_is_not_asked() -> None:
    assert configuration.lack_of_gpus(DOCKERD) is None
    assert "podman 4.3.1 does not hand them on" in str(configuration.lack_of_gpus(PODMAN))
    assert configuration.lack_of_gpus(replace(PODMAN, version="5.2.0")) is None


# --- the daemon


VERSION = {"ApiVersion": "1.41", "Version": "20.10.24", "Components": [{"Name": "Engine"}]}
INFO = {"KernelVersion": "6.1", "SecurityOptions": ["name=seccomp"], "BridgeNfIptables": True}


def described(version: dict[str, Any] | None = None, info: dict[str, Any] | None = None) -> Daemon:
    return daemon.describe(Address("/s"), {**VERSION, **(version or {})}, {**INFO, **(info or {})}, "6.1")


def test_daemon_is_known_by_its_words() -> None:
    found = described()
    assert (found.kind, found.api, found.rootless, found.here, found.confines) == (
        "dockerd",
        "1.41",
        False,
        True,
        False,
    )
    assert described({"Components": [{"Name": "Podman Engine"}]}).kind == "podman"
    assert described(info={"SecurityOptions": ["name=rootless"]}).rootless
    assert described(info={"SecurityOptions": ["name=selinux"]}).confines
    assert not described(info={"KernelVersion": "6.6-linuxkit"}).here
    assert not described(info={"OperatingSystem": "Docker Desktop"}).here


def test_newer_daemon_is_spoken_to_as_was_tried() -> None:
    assert described({"ApiVersion": "1.99"}).api == "1.47"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///var/run/docker.sock", Address("/var/run/docker.sock")),
        ("tcp://127.0.0.1:2375", Address(host="127.0.0.1", port=2375)),
        ("tcp://localhost", Address(host="localhost", port=2375)),
    ],
)
def test_docker_host_names_a_daemon_of_this_machine(text: str, address: Address) -> None:
    assert daemon.parse_address(text) == address


@pytest.mark.parametrize("text", ["tcp://10.0.0.7:2375", "ssh://somebody@somewhere", "unix://", "npipe:////./pipe"])
def test_daemon_of_another_machine_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(NoDaemon, match="models are folders of this machine"):
        daemon.parse_address(text)


def test_rootless_daemons_are_looked_for_where_their_user_has_them() -> None:
    assert daemon.usual_sockets({}, 0) == ("/var/run/docker.sock", "/run/podman/podman.sock")
    assert daemon.usual_sockets({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == (
        "/var/run/docker.sock",
        "/run/user/7/docker.sock",
        "/run/user/7/podman/podman.sock",
        "/run/podman/podman.sock",
    )


# --- output


def frame(kind: int, content: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


def test_lines_are_whole_whatever_the_pieces_are() -> None:
    stream = frame(1, b"one\ntw") + frame(2, b"err") + frame(1, b"o\n") + frame(2, b"or\nlast")
    for size in range(1, len(stream) + 1):
        lines = Lines()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert b"".join(map(lines.take, pieces)) == b"one\ntwo\nerror\n"
        assert lines.rest() == b"last\n"
        assert lines.rest() == b""


def test_line_without_end_is_cut() -> None:
    lines = Lines()
    given = b"".join(lines.take(frame(1, b"x" * 40_000)) for _ in range(5)) + lines.rest()
    assert given.count(b"x") == 200_000
    assert max(map(len, given.splitlines())) < 2**16 + 40_000


# --- images


def test_progress_is_the_sum_of_all_layers_in_steps() -> None:
    amounts = Amounts()
    first = {"status": "Downloading", "id": "a", "progressDetail": {"current": 1_000_000, "total": 10_000_000}}
    assert amounts.take(first) == "1 of 10 MB"
    assert amounts.take(first) == ""
    second = {"status": "Downloading", "id": "b", "progressDetail": {"current": 9_000_000, "total": 10_000_000}}
    assert amounts.take(second) == "10 of 20 MB"
    assert amounts.take({"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 2}}) == ""
    assert amounts.take({"status": "Pulling from x"}) == ""


def test_authorization_is_what_the_registry_is_told() -> None:
    def read(header: str) -> Any:
        return json.loads(base64.urlsafe_b64decode(header))

    assert read(make_authorization(Credentials("me", "secret"), "r:5000")) == {
        "username": "me",
        "password": "secret",
        "serveraddress": "r:5000",
    }
    assert read(make_authorization(Credentials(token="t"), "r")) == {"identitytoken": "t", "serveraddress": "r"}


# --- the network


def test_link_local_addresses_are_unreachable_from_the_bridge_alone() -> None:
    (rule,) = make_rules("mrg0", [IPv4Address("10.0.0.2")])
    assert " ".join(rule) == "pref 101 iif mrg0 to 169.254.0.0/16 unreachable"


def test_resolver_that_is_link_local_can_still_be_asked() -> None:
    text = "search x\nnameserver 169.254.169.254\nnameserver fe80::1\nnameserver 10.0.0.2\n#nameserver 1.1.1.1\n"
    rules = [" ".join(rule) for rule in make_rules("mrg0", read_resolvers(text))]
    assert rules == [
        "pref 100 iif mrg0 to 169.254.169.254 ipproto udp dport 53 lookup main",
        "pref 100 iif mrg0 to 169.254.169.254 ipproto tcp dport 53 lookup main",
        "pref 101 iif mrg0 to 169.254.0.0/16 unreachable",
    ]


def test_bridges_name_is_one_that_the_kernel_takes() -> None:
    assert len(bridge_name("0-0123456789ab")) <= 15
    assert bridge_name("0-0123456789ab") != bridge_name("0-0123456789ac")


# --- the rest


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, 0), (1, 1), (127, 127), (137, -signal.SIGKILL), (139, -signal.SIGSEGV), (128, 128), (255, 255)],
)
def test_exit_code_of_a_signal_is_read_as_such(code: int, expected: int) -> None:
    assert read_exit_code(code) == expected


def test_request_says_how_long_its_body_is() -> None:
    assert make_request("GET", "/x", None, {}) == (
        b"GET /x HTTP/1.1\r\nHost: docker\r\nUser-Agent: moorage\r\nConnection: close\r\n\r\n"
    )
    assert b"Content-Length: 0\r\n" in make_request("POST", "/x", None, {})
    assert make_request("POST", "/x", b"{}", {"X-Y": "z"}).endswith(b"X-Y: z\r\nContent-Length: 2\r\n\r\n{}")


def serving_launch(**parts: object) -> ServingLaunch:
    environment = Environment("e", Path("/opt/py/bin/python"), (Path("/opt/py"), Path("/usr/lib/x")), (), ())
    defaults: dict[str, Any] = {
        "instance_id": "i-1", "environment": environment, "model": Path("/d/models/m"), "variables": {"A": "secret"},
        "threads": 1, "memory_bytes": 2**30, "vcpus": 1, "socket": Path("/s"), "log": NoLog(),
    }  # fmt: skip
    return ServingLaunch(**{**defaults, **parts})


def make_empty_of(**parts: object) -> dict[str, Any]:
    return empty.make_empty(
        serving_launch(**parts), "empty:1", Surroundings(DOCKERD, "x", "net", published=False, nofile=1024)
    )


def test_empty_container_shows_folders_of_the_machine_and_can_write_none_of_them() -> None:
    body = make_empty_of()
    binds = {mount["Target"]: mount for mount in body["HostConfig"]["Mounts"]}
    assert all(mount["Type"] == "bind" and mount["ReadOnly"] for mount in binds.values())
    assert binds["/opt/ml/model"]["Source"] == "/d/models/m"
    assert {"/usr", "/opt/py", "/opt/moorage/serving"} <= set(binds)
    assert not {"/usr/lib/x", "/etc", "/etc/passwd", "/etc/resolv.conf", "/"} & set(binds)
    assert body["HostConfig"]["ReadonlyRootfs"]
    assert set(body["HostConfig"]["Tmpfs"]) == {"/tmp"}


def test_first_process_of_an_empty_container_has_no_privileges_and_no_variables() -> None:
    body = make_empty_of()
    assert (body["User"], body["HostConfig"]["CapDrop"], body["Env"]) == ("65534:65534", ["ALL"], [])
    assert body["Entrypoint"] == ["/opt/py/bin/python"]


def test_empty_container_writes_to_the_volume_where_there_is_one() -> None:
    body = make_empty_of(volume=Path("/v"), model=None)
    writable = {mount["Target"]: mount["Source"] for mount in body["HostConfig"]["Mounts"] if not mount["ReadOnly"]}
    assert writable == {"/tmp": "/v/tmp", "/opt/ml/model": "/v/model"}
    assert body["HostConfig"]["Tmpfs"] == {}


def test_image_of_empty_containers_has_folders_links_and_names_of_users(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib").mkdir()
    made = empty.make_image(tmp_path)
    assert made == empty.make_image(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        assert [entry.name for entry in archive if entry.isfile()] == ["etc/passwd", "etc/group"]
        assert archive.getmember("bin").linkname == "usr/bin"
        assert archive.getmember("lib").isdir()
        assert archive.getmember("tmp").mode == 0o1777
