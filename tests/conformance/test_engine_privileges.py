"""What a model can do to others and to the machine, tried from inside.

See, signal and trace them; become somebody else; mount, make namespaces, ask the kernel for what no model needs.
"""

import os
import stat
import sys
from pathlib import Path

import pytest
from tests.support.any_engine import AnyBench
from tests.support.engines import OBEDIENT, PYTHON, Bench, Instance
from tests.support.promise_table import GUESTS

from moorage.engine.environments import Environment

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

CALL = "(lambda libc: (libc.syscall(*{arguments}), ctypes.get_errno()))(ctypes.CDLL(None, use_errno=True))"
"""Asks the kernel by number: no function of a library is between."""


async def call(instance: Instance, *arguments: int) -> tuple[int, int]:
    """Let a model make a system call; gives what it returned and the error's number."""
    returned, error = eval(await instance.ask(CALL.format(arguments=arguments)))
    return returned, error


@pytest.mark.promise("processes")
async def test_model_sees_no_processes_but_its_own(any_engine: AnyBench, request: pytest.FixtureRequest) -> None:
    await any_engine.ready(name="neighbour")
    instance = await any_engine.ready()
    seen = eval(await instance.ask("os.getpid(), [int(name) for name in os.listdir('/proc') if name.isdigit()]"))
    assert seen == (1, [1]) or (request.node.callspec.params["any_engine"] == GUESTS and seen[1] == [1, seen[0]])


@pytest.mark.promise("processes")
async def test_model_can_signal_and_trace_neither_the_machines_processes_nor_siblings(any_engine: AnyBench) -> None:
    neighbour, instance = await any_engine.ready(name="neighbour"), await any_engine.ready()
    attach = 16
    for pid in (os.getpid(), neighbour.pid):
        assert "ProcessLookupError" in await instance.ask(f"os.kill({pid}, 0)")
        assert "ProcessLookupError" in await instance.ask(f"os.pidfd_open({pid})")
        libc = "ctypes.CDLL(None, use_errno=True)"
        tried = await instance.ask(f"(lambda c: (c.ptrace({attach}, {pid}, 0, 0), ctypes.get_errno()))({libc})")
        assert tried == "(-1, 3)"
    assert await neighbour.ask("1") == "1"


@pytest.mark.promise("privileges")
async def test_model_has_no_privileges_and_can_get_none(engine: Bench) -> None:
    instance = await engine.ready()
    status = dict(
        line.split(":\t", 1) for line in eval(await instance.ask("Path('/proc/self/status').read_text()")).splitlines()
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert await instance.ask("os.getuid()") != "0"
    assert "Error" in await instance.ask("os.setuid(0)")


@pytest.mark.promise("privileges")
async def test_program_with_the_set_user_bit_gives_a_model_nothing(engine: Bench) -> None:
    program = engine.folder / "packages" / "whoami"
    program.parent.mkdir()
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    assert program.stat().st_mode & stat.S_ISUID
    environment = Environment("with-program", PYTHON, (Path(sys.base_prefix), program.parent), (), ())
    instance = await (await engine.start(engine.model(OBEDIENT), environment=environment)).is_ready()
    said = await instance.ask(
        f"subprocess.run([{str(program)!r}, '-u'], capture_output=True, text=True).stdout.strip()"
    )
    assert said.strip("'") == await instance.ask("os.geteuid()")


@pytest.mark.promise("own-user")
async def test_each_instance_is_a_user_of_its_own(engine: Bench) -> None:
    first, second = await engine.ready(name="first"), await engine.ready(name="second")
    uids = {await instance.ask("os.getuid()") for instance in (first, second)}
    assert len(uids) == 2
    for instance in (first, second):
        assert Path(f"/proc/{instance.pid}").stat().st_uid == int(await instance.ask("os.getuid()"))


async def test_user_has_a_name_and_the_machine_too(sandbox: Bench) -> None:
    instance = await sandbox.ready()
    assert await instance.ask("__import__('pwd').getpwuid(os.getuid()).pw_name") == "'model'"
    own = "socket.create_server((socket.gethostbyname(socket.gethostname()), 0)).close()"
    assert await instance.ask(own) == "None"
    isolated = await sandbox.ready(name="isolated", isolated=True)
    assert await isolated.ask("socket.gethostname(), socket.gethostbyname(socket.gethostname())") == (
        "('container-0.local', '127.0.0.1')"
    )


# --- system calls that no model needs


@pytest.mark.promise("system-calls")
async def test_mounts_and_namespaces_are_refused(any_engine: AnyBench) -> None:
    instance = await any_engine.ready()
    libc = "ctypes.CDLL(None, use_errno=True)"
    for attempt in (
        "c.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "c.umount2(b'/tmp', 2)",
        "c.unshare(0x10000000)",
        "c.setns(0, 0)",
    ):
        assert await instance.ask(f"(lambda c: ({attempt}, ctypes.get_errno()))({libc})") == f"(-1, {EPERM})", attempt


@pytest.mark.promise("system-calls")
async def test_child_in_a_user_namespace_of_its_own_is_refused(engine: Bench) -> None:
    instance = await engine.ready()
    new_user, clone3 = 0x10000000, 435
    assert "Operation not permitted" in await instance.ask("subprocess.getoutput('unshare -Ur true')")
    libc = "ctypes.CDLL(None, use_errno=True)"
    tried = f"(lambda c: (c.syscall(c_clone, {new_user} | 17, 0, 0, 0, 0), ctypes.get_errno()))({libc})"
    number = "{'x86_64': 56, 'aarch64': 220}[os.uname().machine]"
    assert await instance.ask(tried.replace("c_clone", number)) == f"(-1, {EPERM})"
    assert await call(instance, clone3, 0, 0) == (-1, ENOSYS)


@pytest.mark.promise("system-calls")
@pytest.mark.parametrize(
    ("name", "numbers", "error"),
    [
        ("bpf", (321, 280), EPERM),
        ("perf_event_open", (298, 241), EPERM),
        ("keyctl", (250, 219), EPERM),
        ("add_key", (248, 217), EPERM),
        ("userfaultfd", (323, 282), EPERM),
        ("open_by_handle_at", (304, 265), EPERM),
        ("kexec_load", (246, 104), EPERM),
        ("finit_module", (313, 273), EPERM),
        ("settimeofday", (164, 170), EPERM),
        ("io_uring_setup", (425, 425), ENOSYS),
    ],
)
async def test_call_that_no_model_needs_is_refused(
    engine: Bench, name: str, numbers: tuple[int, int], error: int
) -> None:
    instance = await engine.ready()
    number = numbers[os.uname().machine == "aarch64"]
    assert await call(instance, number, 0, 0, 0, 0, 0) == (-1, error), name


@pytest.mark.promise("system-calls")
@pytest.mark.parametrize("family", ["AF_PACKET", "AF_VSOCK", "AF_ALG"])
async def test_sockets_of_rare_families_are_refused(engine: Bench, family: str) -> None:
    instance = await engine.ready()
    assert f"Errno {EAFNOSUPPORT}" in await instance.ask(f"socket.socket(socket.{family}, socket.SOCK_RAW)")


@pytest.mark.promise("system-calls")
async def test_call_by_another_processors_convention_ends_only_the_process_that_makes_it(engine: Bench) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the other convention that is tried is that of x32")
    instance = await engine.ready()
    tried = (
        "subprocess.run([sys.executable, '-c', 'import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)']).returncode"
    )
    assert await instance.ask(tried) == "-31"
    assert await instance.ask("1") == "1"


BUSY = """
import asyncio, concurrent.futures, mmap, multiprocessing, multiprocessing.shared_memory, sqlite3, ssl, threading

def work():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        threads = sum(pool.map(abs, range(100)))
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        forks = sum(pool.map(abs, range(100)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        spawned = sum(pool.map(abs, range(100)))
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    memory.close(), memory.unlink()
    shell = subprocess.run("echo $((20 + 22)) | cat", shell=True, capture_output=True, text=True).stdout
    async def over_loopback():
        server = await asyncio.start_server(lambda r, w: (w.write(b"hello"), w.close()), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        said = await reader.read()
        writer.close(), server.close()
        return said
    return threads, forks, spawned, shell, asyncio.run(over_loopback()), socket.if_nameindex()[0], os.cpu_count() > 0
"""


async def test_threads_processes_shared_memory_and_sockets_work_under_the_filter(engine: Bench) -> None:
    instance = await engine.ready(OBEDIENT + BUSY)
    assert await instance.ask("work()") == "(4950, 4950, 4950, '42\\n', b'hello', (1, 'lo'), True)"


async def test_debugger_can_trace_the_models_own_children(engine: Bench) -> None:
    code = """
def trace():
    child = subprocess.Popen(["sleep", "100"])
    libc = ctypes.CDLL(None, use_errno=True)
    attached = libc.ptrace(16, child.pid, None, None)
    os.waitpid(child.pid, 0)
    libc.ptrace(17, child.pid, None, None)
    child.kill()
    return attached, child.wait()
"""
    instance = await engine.ready(OBEDIENT + code)
    assert await instance.ask("trace()") == "(0, -9)"
