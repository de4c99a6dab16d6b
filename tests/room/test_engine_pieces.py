"""The pure pieces of the engines."""

import os
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorage.engine import cgroups, network, probe
from moorage.engine.cgroups import Cgroups, GroupLimits, Hierarchies, find_hierarchies
from moorage.engine.docker.daemon import Address, Daemon
from moorage.engine.machine import Machine, Need
from moorage.engine.ping import parse_status
from moorage.engine.probe import (
    EngineUnavailable,
    choose_engine,
    choose_image_engine,
    count_gpus,
    judge_docker,
    read_gpu_driver,
)
from moorage.engine.sandbox import UserIds, make_bind_arguments, make_settings_files
from moorage.engine.trees import ProcessEntry, parse_stat, tree_of
from moorage.engine.variables import container_variables, count_threads, count_workers, make_variables, ports_of

LIMITS = GroupLimits(memory_bytes=2**30, vcpus=1.5, processes=99)


def machine(fault: str = "") -> Machine:
    return Machine({Need.SANDBOX: fault} if fault else {}, "0.8.0", 0, "3.11", 2, 2**34)


def test_gpus_and_their_driver_are_what_the_kernel_module_says(tmp_path: Path) -> None:
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90.07  Release Build\nGCC version: gcc 12.2.0\n"
    )
    assert (count_gpus(tmp_path / "gpus"), read_gpu_driver(tmp_path / "version")) == (1, "550.90.07")
    assert (count_gpus(tmp_path / "none"), read_gpu_driver(tmp_path / "none")) == (0, "")


def test_threads_are_the_vcpus_as_far_as_the_machine_has_them() -> None:
    assert [count_threads({}, vcpus, 4) for vcpus in (1, 4, 96)] == [1, 4, 4]


@pytest.mark.parametrize(("wanted", "threads"), [("3", 3), ("0", 2), ("-1", 2), ("many", 2), ("4000", 2)])
def test_threads_are_the_users_where_they_can_be(wanted: str, threads: int) -> None:
    assert count_threads({"OMP_NUM_THREADS": wanted}, 2, 4) == threads


def test_workers_are_the_vcpus_as_far_as_the_machine_and_the_memory_have_them() -> None:
    gibibyte = 2**30
    assert [count_workers(vcpus, 4, 64 * gibibyte) for vcpus in (1, 2, 96)] == [1, 2, 4]
    assert [count_workers(4, 4, memory) for memory in (4 * gibibyte, 3 * gibibyte - 1, 100)] == [4, 2, 1]


def test_number_of_workers_is_told_and_the_user_s_stays_beside_it() -> None:
    user_s = {"SAGEMAKER_MODEL_SERVER_WORKERS": "7"}
    made = make_variables(user_s, region="eu-west-1", python=Path("/env/bin/python"), threads=2, workers=3)
    assert (made["MOORAGE_WORKERS"], made["SAGEMAKER_MODEL_SERVER_WORKERS"]) == ("3", "7")


def test_users_variables_win() -> None:
    made = make_variables({"PATH": "/mine", "X": "1"}, region="eu-west-1", python=Path("/env/bin/python"), threads=2)
    assert (made["PATH"], made["X"], made["AWS_REGION"], made["OMP_NUM_THREADS"]) == ("/mine", "1", "eu-west-1", "2")


def test_environments_programs_come_first_in_the_path() -> None:
    made = make_variables({}, region="eu-west-1", python=Path("/env/bin/python"), threads=2)
    assert made["PATH"].startswith("/env/bin:/usr/local")


def test_folders_above_a_bind_can_be_passed_by_other_users() -> None:
    assert make_bind_arguments([("/home/u/env", "/home/u/env")]) == [
        *("--perms", "0755", "--dir", "/home", "--perms", "0755", "--dir", "/home/u"),
        *("--ro-bind", "/home/u/env", "/home/u/env"),
    ]


def test_outer_folder_is_bound_before_the_inner_one() -> None:
    arguments = make_bind_arguments([("/a/b", "/a/b"), ("/a", "/a"), ("/a", "/a")])
    assert arguments[-6:] == ["--ro-bind", "/a", "/a", "--ro-bind", "/a/b", "/a/b"]


def test_hosts_file_knows_the_instances_own_name() -> None:
    assert make_settings_files("127.0.0.1 localhost\n")["hosts"].splitlines() == [
        "127.0.0.1 localhost",
        "127.0.0.1 container-0.local",
    ]


def test_user_ids_are_given_once_and_again_after_they_came_back() -> None:
    ids = UserIds(1000)
    assert [ids.take("a"), ids.take("b")] == [1000, 1001]
    ids.give_back("a")
    assert ids.take("c") == 1000


def test_tree_has_descendants_and_the_session_but_nobody_else() -> None:
    table = [
        ProcessEntry(10, 1, 10, dead=False),
        ProcessEntry(11, 10, 10, dead=False),
        ProcessEntry(12, 11, 12, dead=False),
        ProcessEntry(13, 1, 10, dead=False),
        ProcessEntry(14, 1, 14, dead=False),
    ]
    assert tree_of(10, table) == {11, 12, 13}


def test_process_entry_survives_a_hostile_name() -> None:
    assert parse_stat("7 (a) Z 1 (b) S 3 4 5 6") == ProcessEntry(7, 3, 5, dead=False)


@pytest.mark.parametrize("line", [b"", b"hello\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 abc\r\n"])
def test_ping_answer_that_is_not_http_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_status(line)


def test_group_mounts_of_both_versions_are_found() -> None:
    text = (
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    assert cgroups.parse_mounts(text) == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "": Path("/sys/fs/cgroup/unified"),
    }


def test_own_groups_are_found() -> None:
    assert cgroups.parse_own_groups("4:cpu,cpuacct:/a\n0::/b:c\n") == {"cpu": "/a", "cpuacct": "/a", "": "/b:c"}


def test_instance_is_shown_the_hierarchies_that_limit_it() -> None:
    shared = cgroups.parse_sharing("5:cpu,cpuacct:/\n9:memory:/\n1:name=systemd:/\n0::/\n")
    assert shared == {"cpu": "cpu,cpuacct", "memory": "memory"}
    version1 = {"cpu": Path("/c"), "memory": Path("/m")}
    assert Hierarchies(version1, Path("/u"), frozenset(), shared).visible == shared
    assert Hierarchies({}, Path("/u"), frozenset({"memory"})).visible == {"": ""}
    assert Hierarchies({}, Path("/u"), frozenset()).visible == {}


def test_limits_of_version_1_are_written(tmp_path: Path) -> None:
    parents = {name: tmp_path / name for name in cgroups.CONTROLLERS}
    for folder in parents.values():
        folder.mkdir()
    Cgroups(Hierarchies(parents, None, frozenset())).make("i", LIMITS)
    read = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert read == {
        "memory.limit_in_bytes": "1073741824",
        "memory.memsw.limit_in_bytes": "1073741824",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "pids.max": "99",
    }


def test_limits_of_version_2_are_written(tmp_path: Path) -> None:
    Cgroups(Hierarchies({}, tmp_path, frozenset(cgroups.CONTROLLERS))).make("i", LIMITS)
    read = {path.name: path.read_text() for path in (tmp_path / "i").iterdir()}
    assert read == {
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "pids.max": "99",
    }


def test_envelope_bounds_the_groups_in_it_together(tmp_path: Path) -> None:
    groups = Cgroups(Hierarchies({"memory": tmp_path / "m"}, tmp_path / "u", frozenset({"pids"})))
    for folder in ("m", "u"):
        (tmp_path / folder).mkdir()
    groups.make_envelope("i", LIMITS)
    groups.make("i.1", LIMITS, within="i")
    assert (tmp_path / "m/i/memory.limit_in_bytes").read_text() == "1073741824"
    assert (tmp_path / "m/i/i.1/memory.limit_in_bytes").read_text() == "1073741824"
    assert (tmp_path / "m/i/memory.use_hierarchy").read_text() == "1"
    assert (tmp_path / "u/i/cgroup.subtree_control").read_text() == "+pids"
    assert (tmp_path / "u/i/i.1/pids.max").read_text() == "99"


def test_what_a_killed_agent_has_left_in_an_envelope_is_killed_and_removed() -> None:
    hierarchies = find_hierarchies(f"moorage-test-left-{os.getpid()}")
    groups = Cgroups(hierarchies)
    if not groups.controllers:
        pytest.skip("no control groups here")
    groups.make_envelope("i", LIMITS)
    inner = groups.make("i.1", LIMITS, within="i")
    left = subprocess.Popen(["sleep", "3600"])
    inner.join(left.pid)
    waiting = threading.Thread(target=left.wait)
    waiting.start()  # as whoever adopts it does
    groups.remove_leftovers()
    waiting.join(10)
    assert left.returncode == -signal.SIGKILL
    groups.remove_leftovers()
    groups.close()
    assert not any(folder.exists() for folder in hierarchies.folders)


@pytest.fixture
def version2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a hierarchy of version 2 as a systemd machine has one; gives its root. Files do as the kernel's do."""
    really_write, really_make = Path.write_text, Path.mkdir

    def write(path: Path, text: str, encoding: str | None = None) -> int:
        if path.name == "cgroup.subtree_control" and path.exists():
            text = " ".join(sorted({*path.read_text().split(), text.removeprefix("+")}))
        return really_write(path, text, encoding)

    def make(path: Path, *arguments: Any, **options: Any) -> None:
        really_make(path, *arguments, **options)
        for name in ("cgroup.procs", "cgroup.subtree_control", "memory.events"):
            path.joinpath(name).touch()

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(Path, "mkdir", make)
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "moorage.service").mkdir()
    return tmp_path / "v2"


def test_version_2_is_found_below_the_own_group_and_does_all(tmp_path: Path, version2: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "mounts").write_text(f"cgroup2 {version2} cgroup2 rw,nosuid 0 0\n")
    (proc / "cgroup").write_text("0::/moorage.service\n")
    groups = Cgroups(cgroups.find_hierarchies("moorage-x", proc))
    assert groups.controllers == set(cgroups.CONTROLLERS)
    assert groups.visible == {"": ""}
    group = groups.make("i-1", LIMITS)
    folder = version2 / "moorage.service" / "moorage-x" / "i-1"
    assert (folder / "memory.max").read_text() == "1073741824"
    group.join(4711)
    assert (folder / "cgroup.procs").read_text() == "4711"
    (folder / "memory.events").write_text("oom_kill 1\n")
    assert group.out_of_memory_kills() == 1
    (folder / "cgroup.procs").write_text("")
    group.kill()
    assert (folder / "cgroup.kill").read_text() == "1"


def test_kills_at_the_limit_are_counted_in_both_versions(tmp_path: Path) -> None:
    group = Cgroups(Hierarchies({}, tmp_path, frozenset(cgroups.CONTROLLERS))).make("i", LIMITS)
    assert group.out_of_memory_kills() == 0
    (tmp_path / "i" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.out_of_memory_kills() == 2


def test_best_engine_is_chosen_unless_another_is_named() -> None:
    assert choose_engine("auto", machine()) == "sandbox"
    assert choose_engine("process", machine()) == "process"
    assert choose_engine("auto", machine("bubblewrap is not installed")) == "process"


def test_engine_that_does_not_work_here_is_refused_with_the_reason() -> None:
    with pytest.raises(EngineUnavailable, match="bubblewrap is not installed"):
        choose_engine("sandbox", machine("bubblewrap is not installed"))
    with pytest.raises(EngineUnavailable, match="There is no engine 'kubernetes'"):
        choose_engine("kubernetes", machine())
    for choose in (choose_engine, choose_image_engine):
        with pytest.raises(EngineUnavailable, match="engine docker does not work here: no daemon runs"):
            choose("docker", replace(machine(), lacks={Need.DOCKER: "no daemon runs"}))


@pytest.mark.parametrize(
    ("wanted", "has_docker", "sandbox_fault", "serving", "images"),
    [
        ("auto", True, "", "sandbox", "docker"),
        ("auto", False, "", "sandbox", "sandbox"),
        ("auto", True, "no bubblewrap", "process", "docker"),
        ("auto", False, "no bubblewrap", "process", None),
        ("docker", True, "", "docker", "docker"),
        ("docker", True, "no bubblewrap", "process", "docker"),
        ("sandbox", True, "", "sandbox", "sandbox"),
        ("process", True, "", "process", None),
    ],
)
def test_engine_of_built_in_and_that_of_other_images_are_chosen(
    wanted: str, *, has_docker: bool, sandbox_fault: str, serving: str, images: str | None
) -> None:
    daemon = Daemon(Address("/s"), "dockerd", "20.10", "1.41") if has_docker else None
    here = replace(machine(sandbox_fault), docker=daemon)
    assert choose_engine(wanted, here) == serving
    assert choose_image_engine(wanted, here) == images


def test_built_in_images_run_in_containers_that_this_user_may_enter_and_else_where_they_did() -> None:
    daemon = Daemon(Address("/s"), "dockerd", "20.10", "1.41")
    root = replace(machine(), docker=daemon)
    assert root.guests_fault == ""
    for other in (
        replace(root, uid=1000),
        replace(root, docker=replace(daemon, here=False)),
        replace(root, docker=replace(daemon, rootless=True)),
        replace(root, docker=replace(daemon, remaps=True)),
    ):
        assert other.guests_fault
        assert choose_engine("docker", other) == "sandbox"


def test_isolation_by_docker_takes_a_user_who_may_enter_its_networks() -> None:
    daemon = Daemon(Address("/s"), "dockerd", "20.10", "1.41")
    assert judge_docker(daemon, "", as_root=True) == {}
    assert judge_docker(replace(daemon, rootless=True), "", as_root=False) == {}
    assert Need.CONTAINER_NETWORKS in judge_docker(daemon, "", as_root=False)
    assert Need.CONTAINER_NETWORKS in judge_docker(replace(daemon, here=False), "", as_root=True)
    assert judge_docker(None, "none runs", as_root=True) == {Need.DOCKER: "none runs"}


def test_name_servers_on_the_machines_own_loopback_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, upstream = tmp_path / "stub", tmp_path / "upstream"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\nsearch example.org\n")
    upstream.write_text("# from the router\nnameserver 192.168.1.1\nnameserver fe80::1%eth0\nnameserver\n\n")
    monkeypatch.setattr(network, "_RESOLVER_FILES", (str(stub), str(tmp_path / "none")))
    assert network.resolver_settings() == "options edns0\nsearch example.org\nnameserver 192.0.0.53\n"
    monkeypatch.setattr(network, "_RESOLVER_FILES", (str(stub), str(upstream)))
    assert network.resolver_settings() == "# from the router\nnameserver 192.168.1.1\n"


def test_probe_says_what_is_true_here() -> None:
    found = probe.probe()
    assert found.engine == ("process" if found.sandbox_fault else "sandbox")
    assert found.cpus >= 1
    assert (Need.ROOT in found.lacks, Need.ORDINARY_USER in found.lacks) == (not found.as_root, found.as_root)


def test_containers_of_one_instance_have_no_port_in_common() -> None:
    ports = [ports_of(at) for at in range(15)]
    assert len({port.bind for port in ports}) == 15
    ranges = [set(range(port.first_safe, port.last_safe + 1)) for port in ports]
    assert len(set().union(*ranges)) == sum(map(len, ranges))
    assert not {port.bind for port in ports} & set().union(*ranges)


def test_port_to_listen_at_is_not_the_users_to_change() -> None:
    made = container_variables({"SAGEMAKER_BIND_TO_PORT": "1", "A": "b"}, region="r", ports=ports_of(2))
    assert (made["SAGEMAKER_BIND_TO_PORT"], made["SAGEMAKER_SAFE_PORT_RANGE"], made["A"]) == (
        "8082",
        "20200-20299",
        "b",
    )
    assert container_variables({"SAGEMAKER_BIND_TO_PORT": "1"}, region="r")["SAGEMAKER_BIND_TO_PORT"] == "1"
