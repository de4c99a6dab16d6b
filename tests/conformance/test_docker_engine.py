"""What the docker engine promises of a container of any image, tried from inside and from outside of it."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.containers import ImageBench, docker, docker_bench, installation_of, load, make_engine
from tests.support.dockerd import daemon, needs_docker
from tests.support.engines import until
from tests.support.images import Image, litserve_image, make_layer, python_image
from tests.support.ordinary_user import run_again_as_ordinary_user
from tests.support.registry import Registry, needs_registry, registry

from moorage.engine.docker.daemon import Daemon
from moorage.engine.launch import ImageFailure, LaunchFailed

__all__ = ["daemon"]

pytestmark = needs_docker

IMAGE = "localhost/moorage-test/obedient:1"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


@pytest.fixture(scope="session")
def image(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Have an image that no registry has; gives its id."""
    load(daemon, python_image(), IMAGE, tmp_path_factory.mktemp("image"))
    return docker(daemon, "image", "inspect", "--format", "{{.Id}}", IMAGE)


@pytest.fixture
async def engine(daemon: Daemon, tmp_path: Path) -> AsyncIterator[ImageBench]:
    async with docker_bench(daemon, tmp_path) as made:
        yield made


# --- a life in good order


async def test_container_is_run_with_serve_in_place_of_its_command_and_its_entrypoint_stays(
    engine: ImageBench, image: str
) -> None:
    running = await engine.ready(image)
    assert await running.ask("sys.argv") == "['/opt/program/main.py', 'serve']"
    assert await running.ask("os.getpid()") == "1"


async def test_variables_are_those_of_the_launch_over_those_of_the_image(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image, variables={"MINE": "ä=1", "MADE_BY": "somebody else"})
    seen = eval(await running.ask("dict(os.environ)"))
    assert (seen["MINE"], seen["MADE_BY"], seen["AWS_REGION"]) == ("ä=1", "somebody else", "eu-north-1")
    assert seen["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert await running.ask("socket.gethostname()") == "'container-0.local'"


@pytest.mark.promise("model-read-only", engine="docker")
async def test_model_folder_is_there_and_read_only(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image, model=engine.model(weights="42"))
    assert await running.ask("open('/opt/ml/model/weights').read()") == "'42'"
    assert "Read-only file system" in await running.ask("open('/opt/ml/model/weights', 'w')")


@pytest.mark.promise("additional-data", engine="docker")
async def test_additional_data_of_a_container_is_at_its_place_and_read_only(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image, additional=engine.model(weights="42"))
    place = "/opt/ml/additional-model-data-sources"
    assert await running.ask(f"open('{place}/weights').read()") == "'42'"
    assert "Read-only file system" in await running.ask(f"open('{place}/weights', 'w')")


async def test_many_models_of_a_container_come_while_it_runs_and_are_read_only(engine: ImageBench, image: str) -> None:
    folder = engine.model()
    running = await engine.ready(image, models=folder)
    (folder / "m").mkdir()
    (folder / "m" / "weights").write_text("42", encoding="utf-8")
    assert await running.ask("open('/opt/ml/models/m/weights').read()") == "'42'"
    assert "Read-only file system" in await running.ask("open('/opt/ml/models/m/weights', 'w')")


async def test_model_folder_without_model_is_empty_and_writable(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image)
    assert await running.ask("os.listdir('/opt/ml/model'), open('/opt/ml/model/mine', 'w').write('1')") == "([], 1)"


async def test_output_goes_to_the_log_line_by_line(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image)
    await running.ask("[print('to stdout', flush=True), print('to stderr', file=sys.stderr, flush=True)]")
    await until(lambda: "to stdout\n" in running.log and "to stderr\n" in running.log, "both lines are in the log")
    await until(lambda: "serving as ['serve']\n" in running.log, "it is in the log")


async def test_last_words_of_a_container_are_in_its_log_when_its_end_is_told(engine: ImageBench, image: str) -> None:
    running = await engine.start(
        image, variables={"BEFORE_SERVING": "print('Q' * 300_000); sys.stdout.write('no newline'); 1 / 0"}
    )
    assert (await running.end()).code == 1
    assert running.log.count("Q") == 300_000
    await until(lambda: "no newline\n" in running.log, "it is in the log")
    await until(lambda: "ZeroDivisionError: division by zero\n" in running.log, "it is in the log")


async def test_container_that_is_asked_to_end_ends_and_leaves_nothing(
    engine: ImageBench, image: str, daemon: Daemon
) -> None:
    running = await engine.ready(image)
    assert await running.ask("Path('/proc/1/cmdline').exists()") == "True"
    running.container.terminate()
    end = await running.end()
    assert (end.code, end.out_of_memory) == (0, False)
    assert names_of_containers(daemon, engine) == []


@pytest.mark.parametrize(
    ("fate", "code"), [("os._exit(3)", 3), ("sys.exit(0)", 0), ("1 / 0", 1), ("ctypes.string_at(0)", -11)]
)
async def test_exit_code_or_signal_is_told(engine: ImageBench, image: str, fate: str, code: int) -> None:
    running = await engine.start(image, variables={"BEFORE_SERVING": fate})
    end = await running.end()
    assert (end.code, end.out_of_memory) == (code, False)


@pytest.mark.promise("ends-whole", engine="docker")
async def test_container_that_ignores_sigterm_is_killed(engine: ImageBench, image: str) -> None:
    running = await engine.ready(
        image, variables={"BEFORE_SERVING": "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))"}
    )
    running.container.terminate()
    await until(lambda: "no\n" in running.log, "the signal has come")
    assert not running.container.ended.done()
    await running.container.kill()
    end = await running.end()
    assert (end.code, end.out_of_memory) == (-9, False)


async def test_command_that_the_image_does_not_have_fails_with_the_daemons_words(
    engine: ImageBench, daemon: Daemon, tmp_path: Path
) -> None:
    broken = python_image(Entrypoint=["/no/such/program"])
    load(daemon, broken, "localhost/moorage-test/broken:1", tmp_path)
    resolved = await engine.engine.ensure("localhost/moorage-test/broken:1", lambda _line: None)
    with pytest.raises(LaunchFailed, match="/no/such/program"):
        await engine.start(resolved)
    assert names_of_containers(daemon, engine) == []


# --- limits


@pytest.mark.promise("memory", engine="docker")
async def test_memory_beyond_the_limit_ends_the_container_and_is_told(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image, memory_bytes=64 * 2**20)
    asyncio.get_running_loop().create_task(swallow(running.ask("len(b'x' * 200_000_000)")))
    end = await running.end()
    assert end.out_of_memory
    assert str(end) == "killed at the memory limit of the instance"


async def test_limits_are_those_of_the_launch(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image, memory_bytes=256 * 2**20, vcpus=0.5, core_bytes=4096)
    look = "[path.read_text().strip() for path in map(Path('/sys/fs/cgroup').joinpath, %r) if path.exists()]"
    assert await running.ask(look % ["memory/memory.limit_in_bytes", "memory.max"]) == f"['{256 * 2**20}']"
    assert await running.ask(look % ["memory/memory.memsw.limit_in_bytes"]) in {f"['{256 * 2**20}']", "[]"}
    assert await running.ask(look % ["cpu/cpu.cfs_quota_us"]) in {"['50000']", "[]"}
    assert await running.ask(look % ["pids/pids.max", "pids.max"]) == "['4096']"
    assert "Max core file size        4096" in (await running.ask("open('/proc/self/limits').read()"))
    assert await running.ask("os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize") == str(128 * 2**20)


async def test_instance_type_may_be_larger_than_the_machine(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image, vcpus=192, memory_bytes=2**40)
    assert await running.ask("1") == "1"


@pytest.mark.promise("privileges", engine="docker")
async def test_container_can_get_no_privileges_and_has_those_that_servers_need(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image)
    status = read_status(eval(await running.ask("open('/proc/self/status').read()")))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    needed = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE"}
    assert capabilities(int(status["CapBnd"], 16)) == needed
    assert await running.ask("os.chown('/tmp', 33, 33), os.setegid(33)") == "(None, None)"
    assert "PermissionError" in await running.ask("os.mknod('/tmp/disk', 0o600 | 0o060000, os.makedev(8, 0))")
    assert "PermissionError" in await running.ask("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)")


async def test_container_that_wants_a_gpu_runs_without_where_there_is_none_and_its_log_says_so(
    engine: ImageBench, image: str
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    running = await engine.ready(image, gpus=1)
    await until(lambda: "This container runs without a GPU: " in running.log, "it is in the log")


# --- disk


async def test_all_that_a_container_writes_is_on_its_volume(engine: ImageBench, daemon: Daemon, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    layer = make_layer({"var/lib/thing/state": b"of the image", "data/seed": b"1"})
    made = python_image(Volumes={"/data": {}})
    load(daemon, Image((*made.layers, layer), made.config), "localhost/moorage-test/writer:1", tmp_path)
    resolved = await engine.engine.ensure("localhost/moorage-test/writer:1", lambda _line: None)
    running = await engine.ready(resolved, volume=volume, model=engine.model(weights="42"))
    assert await running.ask("open('/var/lib/thing/state').read()") == "'of the image'"
    assert await running.ask("open('/data/seed').read()") == "'1'"
    folders = ["/tmp", "/root", "/home", "/run", "/opt/ml", "/opt/program", "/data", "/var/log", "/var/tmp"]
    places = [f"{folder}/a" for folder in folders]
    for place in places:
        assert await running.ask(f"open({place!r}, 'w').write('x' * 1000)") == "1000", place
    assert len([path for path in volume.rglob("a") if path.read_text() == "x" * 1000]) == len(places)
    assert "Read-only file system" in await running.ask("open('/usr/a', 'w')")
    assert "Read-only file system" in await running.ask("open('/etc/hosts', 'a')")
    assert "Read-only file system" in await running.ask("open('/opt/ml/model/a', 'w')")
    assert await running.ask("oct(os.stat('/tmp').st_mode)") == "'0o41777'"


async def test_crash_leaves_its_core_file_in_the_volume(engine: ImageBench, image: str, tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("this kernel writes core files elsewhere")
    volume = tmp_path / "volume"
    volume.mkdir()
    running = await engine.ready(image, volume=volume, core_bytes=2**30)
    crash = "subprocess.run([sys.executable, '-c', 'import os; os.abort()']).returncode"
    assert await running.ask(crash) == "-6"
    cores = list(volume.rglob("core*"))
    assert len(cores) == 1
    assert cores[0].read_bytes()[:4] == b"\x7fELF"


# --- network


@pytest.mark.promise("no-network", engine="docker")
async def test_container_has_no_network_where_it_is_isolated_and_answers_all_the_same(
    engine: ImageBench, image: str
) -> None:
    running = await engine.ready(image, isolated=True)
    assert running.container.address.startswith("dial:")
    assert await running.ask("sorted(os.listdir('/sys/class/net'))") == "['lo']"
    for target in (("1.1.1.1", 443), ("169.254.169.254", 80), ("172.17.0.1", 22)):
        assert "Network is unreachable" in await running.ask(f"socket.create_connection({target!r}, 5)")


@needs_root
async def test_link_local_addresses_are_unreachable_from_inside(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image)
    for target in (("169.254.169.254", 80), ("169.254.170.2", 80)):
        answer = await running.ask(f"socket.create_connection({target!r}, 5)")
        assert "unreachable" in answer or "No route" in answer


@needs_root
@pytest.mark.promise("link-local", engine="docker")
async def test_link_local_addresses_are_unreachable_from_the_first_instruction_on(
    engine: ImageBench, image: str
) -> None:
    attempt = "print(attempt('socket.create_connection((\"169.254.169.254\", 80), 5)'), flush=True)"
    running = await engine.start(image, variables={"BEFORE_SERVING": attempt})
    await until(lambda: "unreachable" in running.log or "No route" in running.log, "the first attempt has failed")


async def test_other_machines_can_be_reached_where_it_is_not_isolated(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image)
    assert "eth0" in await running.ask("os.listdir('/sys/class/net')")
    routes = await running.ask("[line.split()[1] for line in open('/proc/net/route').read().splitlines()[1:]]")
    assert "'00000000'" in routes


async def test_siblings_do_not_reach_each_other(engine: ImageBench, image: str) -> None:
    first, second = await engine.ready(image), await engine.ready(image)
    address = first.container.address.rpartition(":")[0]
    assert "TimeoutError" in await second.ask(f"socket.create_connection(({address!r}, 8080), 2)")
    assert await first.ask("1") == "1"


@pytest.mark.promise("loopback", engine="docker")
async def test_what_listens_on_the_loopback_of_the_machine_is_not_reached(engine: ImageBench, image: str) -> None:
    running = await engine.ready(image)
    gateway = running.container.address.rpartition(".")[0] + ".1"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for host in (gateway, "127.0.0.1"):
            assert "ConnectionRefusedError" in await running.ask(f"socket.create_connection(({host!r}, {port}), 5)")
    with socket.create_server((gateway, 0)) as listener:  # the positive control: it is not for want of a way
        port = listener.getsockname()[1]
        assert "<socket" in await running.ask(f"socket.create_connection(({gateway!r}, {port}), 5)")


# --- another user


@needs_root
def test_ordinary_user_has_what_docker_gives_and_is_refused_the_rest(
    daemon: Daemon, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bwrap") is None or not daemon.address.path:
        pytest.skip("bubblewrap, which makes another user's view of this machine, is not installed")
    monkeypatch.setenv("DOCKER_HOST", str(daemon.address))
    file = "tests/conformance/test_docker_engine_as_user.py"
    run_again_as_ordinary_user(file, tmp_path / "home", Path(daemon.address.path))


# --- leftovers


async def test_containers_of_a_killed_node_agent_are_removed_at_the_next_start(
    engine: ImageBench, image: str, daemon: Daemon, tmp_path: Path
) -> None:
    running = await engine.ready(image)
    other = make_engine(daemon, tmp_path, installation="another-one")
    await other.prepare()
    assert await running.ask("1") == "1"
    again = make_engine(daemon, tmp_path)
    await again.prepare()
    assert names_of_containers(daemon, engine) == []
    assert (await running.end()).code == -9


async def test_nothing_of_the_network_is_left_at_the_end(daemon: Daemon, image: str, tmp_path: Path) -> None:
    async with docker_bench(daemon, tmp_path) as engine:
        await engine.ready(image)
        name = f"moorage-{installation_of(tmp_path)}"
        assert name in docker(daemon, "network", "ls", "--format", "{{.Name}}").split()
    assert name not in docker(daemon, "network", "ls", "--format", "{{.Name}}").split()


async def test_container_that_somebody_removes_has_ended(engine: ImageBench, image: str, daemon: Daemon) -> None:
    running = await engine.ready(image)
    docker(daemon, "rm", "--force", f"moorage-{running.launch.instance_id}")
    assert (await running.end()).code == -9


# --- images


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("guarded"), protected=True) as made:
        yield made


@needs_registry
async def test_image_is_pulled_and_named_by_its_digest(engine: ImageBench, shop: Registry) -> None:
    digest = python_image(Labels={"for": "pull"}).push(shop, "team/model", "7")
    said: list[str] = []
    resolved = await engine.engine.ensure(f"{shop.host}/team/model:7", said.append)
    assert resolved == f"{shop.host}/team/model@{digest}"
    assert said[0] == f"pulling {shop.host}/team/model:7"
    assert await (await engine.ready(resolved)).ask("6 * 7") == "42"


@needs_registry
async def test_what_is_pinned_runs_on_when_its_tag_has_moved(engine: ImageBench, shop: Registry) -> None:
    first = python_image("import time; time.sleep(1)").push(shop, "team/moving", "latest")
    resolved = await engine.engine.ensure(f"{shop.host}/team/moving", lambda _line: None)
    second = python_image().push(shop, "team/moving", "latest")
    assert await engine.engine.ensure(resolved, lambda _line: None) == f"{shop.host}/team/moving@{first}"
    assert await engine.engine.ensure(f"{shop.host}/team/moving", lambda _line: None) == (
        f"{shop.host}/team/moving@{second}"
    )


@needs_registry
async def test_registry_with_a_password_is_asked_with_that_of_dockers_configuration(
    engine: ImageBench, guarded: Registry
) -> None:
    digest = python_image(Labels={"for": "password"}).push(guarded, "secret/model", "1")
    with pytest.raises(ImageFailure, match=rf"docker login {guarded.host}"):
        await engine.engine.ensure(f"{guarded.host}/secret/model:1", lambda _line: None)
    (engine.folder / "docker").mkdir()
    config = {"auths": {guarded.host: {"auth": guarded.authorization}}}
    (engine.folder / "docker" / "config.json").write_text(json.dumps(config))
    resolved = await engine.engine.ensure(f"{guarded.host}/secret/model:1", lambda _line: None)
    assert resolved == f"{guarded.host}/secret/model@{digest}"


@needs_registry
async def test_users_keep_their_uris_where_a_registry_stands_in_for_awss(
    daemon: Daemon, shop: Registry, tmp_path: Path
) -> None:
    digest = python_image(Labels={"for": "mirror"}).push(shop, "churn", "3")
    uri = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/churn"
    async with docker_bench(daemon, tmp_path, mirrors={"*.dkr.ecr.*.amazonaws.com": shop.host}) as engine:
        assert not await engine.engine.has(f"{uri}:3")
        resolved = await engine.engine.ensure(f"{uri}:3", lambda _line: None)
        assert resolved == f"{uri}@{digest}"
        assert await engine.engine.has(f"{uri}:3")
        assert await (await engine.ready(resolved)).ask("6 * 7") == "42"


@needs_registry
@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("{host}/team/nothing:1", "could not be pulled: .*Look at the repository and the tag"),
        ("127.0.0.1:9/team/model:1", "could not be pulled: .*Look whether the registry 127.0.0.1:9 answers"),
        ("Not An Image", "'Not An Image' is not the name of an image"),
        ("sha256:" + "0" * 64, "was made on this machine and has been removed"),
    ],
)
async def test_image_that_cannot_be_had_is_told_with_what_to_do(
    engine: ImageBench, shop: Registry, image: str, words: str
) -> None:
    with pytest.raises(ImageFailure, match=words):
        await engine.engine.ensure(image.format(host=shop.host), lambda _line: None)


async def test_image_that_only_this_machine_has_is_taken_and_keeps_its_name(engine: ImageBench, image: str) -> None:
    said: list[str] = []
    resolved = await engine.engine.ensure(IMAGE, said.append)
    assert said[-1].startswith(f"{IMAGE} is taken as it is on this machine: ")
    assert "sha256:" in resolved
    assert await engine.engine.ensure(resolved, said.append) == resolved
    assert await engine.engine.has(IMAGE)
    assert await (await engine.ready(resolved)).ask("6 * 7") == "42"


@needs_registry
async def test_many_instances_wait_for_one_pull(engine: ImageBench, shop: Registry) -> None:
    python_image(Labels={"for": "many"}).push(shop, "team/many", "1")
    names = await asyncio.gather(
        *(engine.engine.ensure(f"{shop.host}/team/many:1", lambda _line: None) for _ in range(8))
    )
    assert len(set(names)) == 1


# --- somebody else's server


@pytest.mark.slow  # the first time it is downloaded
async def test_server_of_a_third_party_is_served_unmodified(engine: ImageBench, daemon: Daemon, tmp_path: Path) -> None:
    load(daemon, litserve_image(), "localhost/moorage-test/litserve:1", tmp_path)
    resolved = await engine.engine.ensure("localhost/moorage-test/litserve:1", lambda _line: None)
    running = await engine.ready(resolved, model=engine.model(**{"factor.json": "7"}), memory_bytes=2**30)
    assert json.loads(await running.post(b'{"input": 6}', "application/json")) == {"output": 42}
    await running.container.kill()  # it is its container's first process, and has no ear for SIGTERM as such
    assert (await running.end()).code == -9


def names_of_containers(daemon: Daemon, engine: ImageBench) -> list[str]:
    label = f"label=moorage.installation={installation_of(engine.folder)}"
    return docker(daemon, "ps", "--all", "--filter", label, "--format", "{{.Names}}").split()


_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE",
)  # fmt: skip


def capabilities(mask: int) -> set[str]:
    others = {"OTHERS"} if mask >> len(_CAPABILITIES) else set()
    return {name for bit, name in enumerate(_CAPABILITIES) if mask >> bit & 1} | others


def read_status(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _colon, value in pairs}


async def swallow(asking: Coroutine[Any, Any, str]) -> None:
    with contextlib.suppress(OSError):
        await asking
