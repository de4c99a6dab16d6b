"""Images run of their unpacked layers, tried from inside a container and from outside."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.engines import until
from tests.support.images import Image, make_layer, python_image
from tests.support.machine import MACHINE
from tests.support.ordinary_user import TESTS, run_again_as_ordinary_user
from tests.support.product import alive, descendants
from tests.support.unpacked import UnpackedBench, unpacked_bench

from moorage.base.settings import cache_dir
from moorage.engine.cores import why_not_found
from moorage.engine.launch import LaunchFailed
from moorage.engine.references import parse_reference
from moorage.engine.rootfs.store import ImageInUse

AS_ROOT = os.geteuid() == 0

needs_root = pytest.mark.skipif(not AS_ROOT, reason="an ordinary user's containers are all that user")
needs_memory_limit = pytest.mark.skipif(
    "memory" not in MACHINE.controllers, reason="this user cannot write the memory control group"
)
needs_way_out = pytest.mark.skipif(
    shutil.which("pasta") is None or not (AS_ROOT or os.access("/dev/net/tun", os.W_OK)),
    reason="pasta (Debian: passt) is not installed, or this user may not open /dev/net/tun",
)


@pytest.fixture
async def bench(tmp_path: Path, library: Path) -> AsyncIterator[UnpackedBench]:
    async with unpacked_bench(tmp_path, library) as made:
        yield made


async def ready(bench: UnpackedBench, image: Image | None = None, **parts: Any) -> Any:
    return await bench.ready(await bench.add(image or python_image()), **{"isolated": True, **parts})


# --- what the image says


async def test_container_answers_at_port_8080_of_its_own_network(bench: UnpackedBench) -> None:
    running = await ready(bench)
    assert running.container.address.startswith("dial:")
    assert await running.ask("6 * 7") == "42"


async def test_program_is_the_images_entrypoint_with_serve_in_place_of_its_command(bench: UnpackedBench) -> None:
    running = await ready(bench)
    await until(lambda: "serving as ['serve']" in running.log, "it is in the log")


async def test_variables_are_the_images_then_the_launchs_over_them(bench: UnpackedBench) -> None:
    image = python_image(Env=["PATH=/usr/local/bin:/bin", "ONE=image", "TWO=image"])
    running = await ready(bench, image, variables={"TWO": "launch"})
    seen = eval(await running.ask("dict(os.environ)"))
    assert (seen["ONE"], seen["TWO"], seen["PATH"]) == ("image", "launch", "/usr/local/bin:/bin")
    assert (seen["HOME"], seen["HOSTNAME"]) == ("/root", "container-0.local")
    assert not [name for name in seen if name.startswith("MOORAGE")]


async def test_working_folder_is_the_images_and_made_when_it_is_not_there(bench: UnpackedBench) -> None:
    running = await ready(bench, python_image(WorkingDir="/some/where"))
    assert await running.ask("os.getcwd(), open('made', 'w') and 1") == "('/some/where', 1)"


async def test_host_name_and_loopback_are_the_containers_own(bench: UnpackedBench) -> None:
    running = await ready(bench)
    assert await running.ask("socket.gethostname()") == "'container-0.local'"
    assert await running.ask("socket.gethostbyname('container-0.local')") == "'127.0.0.1'"


@pytest.mark.parametrize(("user", "uid", "gid"), [("33", 33, 33), ("www-data", 33, 33), ("1000:7", 1000, 7)])
async def test_program_runs_as_the_images_user(bench: UnpackedBench, user: str, uid: int, gid: int) -> None:
    running = await ready(bench, python_image(User=user))
    assert eval(await running.ask("os.getuid(), os.getgid()")) == (uid, gid)
    assert "CapEff:\\t0000000000000000" in await running.ask("open('/proc/self/status').read()")
    assert "Permission" in await running.ask("os.chown('/tmp', 0, 0)") or not AS_ROOT


@needs_root
async def test_root_of_an_image_changes_owners_and_becomes_others_within_its_image(bench: UnpackedBench) -> None:
    running = await ready(bench)
    assert await running.ask("(open('/tmp/a', 'w'), os.chown('/tmp/a', 33, 33), os.stat('/tmp/a').st_uid)[2]") == "33"
    become = "subprocess.run([sys.executable, '-c', 'import os; print(os.getuid())'], user=33, capture_output=True)"
    assert await running.ask(f"{become}.stdout") == "b'33\\n'"


async def test_layers_lie_over_each_other_with_what_they_hide(bench: UnpackedBench) -> None:
    base = python_image()
    lower = make_layer({"a/kept": b"1", "a/hidden": b"1", "b/all": b"1", "b/deep/all": b"1", "c": b"lower"})
    upper = make_layer({"a/.wh.hidden": b"", "b/.wh..wh..opq": b"", "b/new": b"2", "c": b"upper"})
    image = Image((*base.layers, lower, upper), base.config)
    running = await ready(bench, image)
    assert eval(await running.ask("sorted(os.listdir('/a')), sorted(os.listdir('/b')), open('/c').read()")) == (
        ["kept"],
        ["new"],
        "upper",
    )


# --- what it gets


@pytest.mark.promise("model-read-only", engine="sandbox")
async def test_model_is_there_and_cannot_be_written(bench: UnpackedBench) -> None:
    model = bench.model(**{"weights.txt": "heavy"})
    running = await ready(bench, model=model)
    assert await running.ask("open('/opt/ml/model/weights.txt').read()") == "'heavy'"
    assert "Read-only" in await running.ask("open('/opt/ml/model/new', 'w')")


@pytest.mark.promise("additional-data", engine="sandbox")
async def test_additional_data_is_there_and_cannot_be_written(bench: UnpackedBench) -> None:
    running = await ready(bench, model=bench.model(), additional=bench.model(weights="heavy"))
    place = "/opt/ml/additional-model-data-sources"
    assert await running.ask(f"open('{place}/weights').read()") == "'heavy'"
    assert "Read-only" in await running.ask(f"open('{place}/new', 'w')")


async def test_many_models_come_while_the_container_runs_and_cannot_be_written(bench: UnpackedBench) -> None:
    folder = bench.model()
    running = await ready(bench, models=folder)
    place = "/opt/ml/models"
    assert await running.ask(f"os.path.exists('{place}/m')") == "False"
    (folder / "m").mkdir()
    (folder / "m" / "weights").write_text("heavy", encoding="utf-8")
    assert await running.ask(f"open('{place}/m/weights').read()") == "'heavy'"
    assert "Read-only" in await running.ask(f"open('{place}/m/new', 'w')")


async def test_container_without_a_model_has_an_empty_folder_that_can_be_written(bench: UnpackedBench) -> None:
    running = await ready(bench, python_image(User="33"))
    assert await running.ask("os.listdir('/opt/ml/model')") == "[]"
    assert await running.ask("open('/opt/ml/model/new', 'w').write('x')") == "1"


async def test_whole_file_system_can_be_written_and_is_nobody_elses(bench: UnpackedBench) -> None:
    image = await bench.add(python_image())
    first, second = await bench.ready(image, isolated=True), await bench.ready(image, isolated=True)
    await first.ask("open('/etc/passwd', 'a').write('x')")
    await first.ask("open('/usr/local/new', 'w').write('x')")
    assert await second.ask("os.path.exists('/usr/local/new')") == "False"
    assert await second.ask("open('/etc/passwd').read()[-1]") != "'x'"


async def test_volume_takes_all_that_is_written(bench: UnpackedBench, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    running = await ready(bench, volume=volume)
    assert await running.ask("open('/home/new', 'w').write('on the volume')") == "13"
    found = [path for path in volume.rglob("new") if path.is_file()]
    assert [path.read_text() for path in found] == ["on the volume"]


async def test_shared_memory_is_half_of_the_memory_and_its_own(bench: UnpackedBench) -> None:
    running = await ready(bench, memory_bytes=256 * 2**20)
    size = "(lambda s: s.f_blocks * s.f_bsize)(os.statvfs('/dev/shm'))"
    assert await running.ask(size) == str(128 * 2**20)
    assert await running.ask("os.listdir('/dev/shm')") == "[]"


async def test_usual_devices_are_there_and_no_others(bench: UnpackedBench) -> None:
    running = await ready(bench)
    names = eval(await running.ask("sorted(os.listdir('/dev'))"))
    assert names == [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ]  # fmt: skip
    assert await running.ask("len(os.urandom(3)), open('/dev/null', 'w').write('x')") == "(3, 1)"
    assert await running.ask("len(os.openpty())") == "2"


# --- what it cannot do


@pytest.mark.promise("processes", engine="sandbox")
async def test_container_sees_its_own_processes_only(bench: UnpackedBench) -> None:
    running = await ready(bench)
    assert await running.ask("[name for name in os.listdir('/proc') if name.isdigit()], os.getpid()") == "(['1'], 1)"


@pytest.mark.promise("files", engine="sandbox")
async def test_nothing_of_the_machine_is_in_its_file_system(bench: UnpackedBench) -> None:
    secret = bench.folder / secrets.token_hex(8)
    secret.write_text("secret", encoding="utf-8")
    running = await ready(bench)
    assert "No such file" in await running.ask(f"open({str(secret)!r}).read()")
    mounts = eval(await running.ask("open('/proc/self/mountinfo').read()"))
    assert str(bench.folder) not in "\n".join(line for line in mounts.splitlines() if "/opt/ml/model" not in line)


@pytest.mark.promise("privileges", engine="sandbox")
async def test_privileges_are_few_and_cannot_be_had_back(bench: UnpackedBench) -> None:
    running = await ready(bench)
    status = eval(await running.ask("open('/proc/self/status').read()"))
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["CapBnd"], fields["NoNewPrivs"], fields["Seccomp"]) == ("00000000000004fb", "1", "2")
    for attempt in (
        "ctypes.CDLL(None, use_errno=True).mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "ctypes.CDLL(None, use_errno=True).unshare(0x10000000)",
        "ctypes.CDLL(None, use_errno=True).umount2(b'/opt/ml/model', 2)",
    ):
        assert await running.ask(attempt) == "-1", attempt
    assert "PermissionError" in await running.ask("os.mknod('/tmp/d', 0o60600, 0x700)")
    assert "PermissionError" in await running.ask("socket.sethostname('other')")
    assert "Error" in await running.ask("open('/proc/sys/kernel/core_pattern', 'w').write('x')")


@needs_root
@pytest.mark.promise("own-user", engine="sandbox")
async def test_root_of_an_image_is_nobody_on_the_machine_and_each_container_another(bench: UnpackedBench) -> None:
    image = await bench.add(python_image())
    first, second = await bench.ready(image, isolated=True), await bench.ready(image, isolated=True)
    uids = {Path(f"/proc/{running.container.pid}").stat().st_uid for running in (first, second)}
    assert len(uids) == 2
    assert min(uids) >= 0x7000_0000
    assert await first.ask("os.getuid(), os.stat('/bin/sh').st_uid") == "(0, 0)"


@pytest.mark.promise("no-network", engine="sandbox")
async def test_isolated_container_has_no_network_but_itself(bench: UnpackedBench) -> None:
    running = await ready(bench)
    assert await running.ask("[name for _, name in socket.if_nameindex()]") == "['lo']"
    for address in (("1.1.1.1", 443), ("169.254.169.254", 80), ("192.0.2.1", 80)):
        assert "unreachable" in await running.ask(f"socket.create_connection({address!r}, 3)")


@needs_way_out
@pytest.mark.promise("loopback", engine="sandbox")
@pytest.mark.promise("link-local", engine="sandbox")
async def test_other_container_reaches_the_outside_and_neither_this_machine_nor_link_local_addresses(
    bench: UnpackedBench,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 3).close()  # from here it can be reached
        own.accept()[0].close()
        running = await ready(bench, isolated=False)
        assert "refused" in await running.ask(f"socket.create_connection(('127.0.0.1', {port}), 3)")
        gateway = "socket.inet_ntoa(bytes.fromhex(open('/proc/net/route').read().splitlines()[1].split()[2])[::-1])"
        assert "socket.socket" not in await running.ask(f"socket.create_connection(({gateway}, {port}), 1)")
        own.setblocking(False)
        with pytest.raises(BlockingIOError):
            own.accept()
    assert "unreachable" in await running.ask("socket.create_connection(('169.254.169.254', 80), 3)")


@pytest.fixture
def neighbour() -> Iterator[str]:
    """Have an address on this machine that is not its loopback nor the one that containers share with it."""
    name, address = f"mt{secrets.token_hex(4)}", f"198.51.100.{secrets.randbelow(250) + 1}"
    made = subprocess.run(["ip", "link", "add", name, "type", "veth"], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no network interface can be made here: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield address
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@needs_root
@needs_way_out
async def test_other_container_reaches_a_server_beyond_itself(bench: UnpackedBench, neighbour: str) -> None:
    with socket.create_server((neighbour, 0)) as server:
        running = await ready(bench, isolated=False)
        asked = asyncio.create_task(running.ask(f"socket.create_connection({server.getsockname()!r}, 5).recv(9)"))
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            connection.sendall(b"reached")
        assert await asked == "b'reached'"
    assert "nameserver 192.0.0.53" in eval(await running.ask("open('/etc/resolv.conf').read()"))


async def test_container_that_cannot_have_a_way_out_runs_and_its_log_says_so(
    bench: UnpackedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.engine.rootfs.network.pasta", lambda: None)
    running = await ready(bench, isolated=False)
    await until(lambda: "cannot reach any network: pasta is not installed" in running.log, "it is in the log")
    assert await running.ask("[name for _, name in socket.if_nameindex()]") == "['lo']"


# --- its end


async def test_end_has_the_programs_exit_code(bench: UnpackedBench) -> None:
    image = await bench.add(python_image())
    running = await bench.start(image, isolated=True, variables={"BEFORE_SERVING": "sys.exit(7)"})
    assert str(await running.end()) == "ended with exit code 7"


@pytest.mark.skipif(bool(why_not_found()), reason=f"no core files here: {why_not_found()}")
async def test_crash_leaves_its_core_file_on_the_volume_up_to_the_size(bench: UnpackedBench, tmp_path: Path) -> None:
    (volume := tmp_path / "volume").mkdir()
    image = await bench.add(python_image(WorkingDir="/work"))
    running = await bench.ready(image, isolated=True, volume=volume, core_bytes=2**20)
    with contextlib.suppress(OSError):
        await running.ask("os.kill(os.getpid(), 11) or ctypes.string_at(0)")
    assert (await running.end()).code == -signal.SIGSEGV
    (core,) = [path for path in volume.rglob("core*") if path.is_file() and path.parent.name == "work"]
    assert 0 < core.stat().st_size <= 2**20


async def test_crash_leaves_no_core_file_where_none_is_wanted(bench: UnpackedBench, tmp_path: Path) -> None:
    (volume := tmp_path / "volume").mkdir()
    image = await bench.add(python_image(WorkingDir="/work"))
    running = await bench.ready(image, isolated=True, volume=volume)
    with contextlib.suppress(OSError):
        await running.ask("ctypes.string_at(0)")
    assert (await running.end()).code == -signal.SIGSEGV
    assert not list(volume.rglob("core*"))


async def test_program_that_is_not_there_ends_with_127_and_the_log_says_which(bench: UnpackedBench) -> None:
    image = await bench.add(python_image(Entrypoint=["/no/such/program"]))
    running = await bench.start(image, isolated=True)
    assert (await running.end()).code == 127
    await until(lambda: "The image's program /no/such/program cannot be started" in running.log, "it is in the log")


async def test_termination_is_the_programs_to_handle(bench: UnpackedBench) -> None:
    running = await ready(bench)
    running.container.terminate()
    assert (await running.end()).code == 0


@pytest.mark.promise("ends-whole", engine="sandbox")
async def test_kill_ends_all_and_nothing_is_left(bench: UnpackedBench) -> None:
    running = await ready(bench)
    await running.ask("[subprocess.Popen(['/bin/sh', '-c', 'sleep 1000; true'], start_new_session=True)] and 1")
    await running.ask("subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])")
    inside = descendants(running.container.pid)
    await running.container.kill()
    assert (await running.end()).code == -signal.SIGKILL
    assert not [pid for pid in inside if alive(pid)]
    assert not running.launch.socket.exists()
    assert "stage" not in Path("/proc/self/mounts").read_text()


@needs_memory_limit
@pytest.mark.promise("memory", engine="sandbox")
async def test_memory_is_limited_and_the_end_says_so(bench: UnpackedBench) -> None:
    running = await ready(bench, memory_bytes=128 * 2**20)
    with pytest.raises((OSError, AssertionError, TimeoutError, asyncio.IncompleteReadError)):
        assert await running.ask("len(bytearray(2 ** 29))") == "never"
    assert (await running.end()).out_of_memory


@pytest.mark.promise("ends-with-moorage", engine="sandbox")
async def test_container_dies_with_whoever_started_it(bench: UnpackedBench) -> None:
    asked = "n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print('dies by', n.value)"
    running = await ready(bench, variables={"BEFORE_SERVING": asked})
    parent = Path(f"/proc/{running.container.pid}/status").read_text().split("PPid:\t")[1].split()[0]
    assert parent == str(os.getpid())
    await until(lambda: f"dies by {int(signal.SIGKILL)}\n" in running.log, "it is in the log")


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.support.unpacked import unpacked_bench

async def main():
    folder, library, image = sys.argv[1:]
    async with unpacked_bench(Path(folder), Path(library)) as bench:
        running = await bench.ready(image, isolated=False)
        print(running.container.pid, flush=True)
        await running.end()

asyncio.run(main())
"""


async def test_kill_9_of_whoever_started_it_leaves_no_process_and_no_mount(
    bench: UnpackedBench, library: Path, tmp_path: Path
) -> None:
    image = await bench.add(python_image())
    (folder := tmp_path / "killed").mkdir()
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, folder, library, image), stdout=asyncio.subprocess.PIPE, cwd=TESTS.parent
    )
    assert starter.stdout is not None
    container = int(await asyncio.wait_for(starter.stdout.readline(), 60))
    family = descendants(starter.pid) | {container}
    assert len(family) >= 3  # the starter, what makes containers, the container, and pasta where it is
    starter.kill()
    await starter.wait()
    await until(lambda: not any(alive(pid) for pid in family), "all has ended with the starter")
    assert str(folder) not in Path("/proc/self/mounts").read_text(encoding="utf-8")


async def test_container_that_wants_gpus_runs_without_and_its_log_says_so(bench: UnpackedBench) -> None:
    running = await ready(bench, gpus=1)
    assert "This container runs without a GPU: the engine sandbox hands none on" in running.log


async def test_image_in_use_is_not_removed_and_an_idle_one_is(tmp_path: Path) -> None:
    name = parse_reference("tests/image:1")
    async with unpacked_bench(tmp_path) as bench:
        running = await ready(bench)
        with pytest.raises(ImageInUse, match="in use"):
            bench.store.remove(name)
        await running.container.kill()
        await running.end()
        assert bench.store.remove(name)
        assert not list((bench.store.folder / "layers").glob("[!.]*"))
        with pytest.raises(LaunchFailed, match="no more"):
            await bench.start(running.launch.image)


@pytest.mark.slow  # runs this file once more
@pytest.mark.timeout(300)
@needs_root
def test_all_this_holds_for_an_ordinary_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_again_as_ordinary_user(__file__, home, files={cache_dir() / "test-images": home / ".cache/moorage/test-images"})
