"""What a model sees of files, tried from inside: its own, the system's, and nothing of Moorage or of other models."""

import shutil
import sys
from pathlib import Path

import pytest
from tests.support.any_engine import AnyBench
from tests.support.engines import OBEDIENT, PYTHON, Bench

from moorage.engine.environments import Environment


@pytest.mark.promise("files")
async def test_model_cannot_read_other_models(sandbox: Bench) -> None:
    neighbour = await sandbox.ready(name="neighbour")
    instance = await sandbox.ready()
    assert neighbour.launch.model is not None
    assert "FileNotFoundError" in await instance.ask(f"os.listdir({str(neighbour.launch.model)!r})")
    tried = await instance.ask("os.listdir('/opt/moorage/models')")
    assert "PermissionError" in tried or "FileNotFoundError" in tried
    assert "neighbour" not in await instance.ask(
        "subprocess.getoutput('find / -path /usr -prune -o -name neighbour -print 2>/dev/null')"
    )


@pytest.mark.promise("files")
async def test_covered_models_cannot_be_uncovered_in_a_new_user_namespace(sandbox: Bench) -> None:
    await sandbox.ready(name="neighbour")
    instance = await sandbox.ready()
    tried = await instance.ask(
        "subprocess.getoutput('unshare -Urm sh -c \"umount -l /opt/moorage/models; ls /opt/moorage/models\"')"
    )
    assert "neighbour" not in tried


@pytest.mark.promise("files")
async def test_model_sees_nothing_of_moorage(sandbox: Bench) -> None:
    (sandbox.folder / "state.db").write_text("secret", encoding="utf-8")
    instance = await sandbox.ready()
    for path in (sandbox.folder, sandbox.folder / "state.db", instance.launch.socket, instance.folder):
        assert "FileNotFoundError" in await instance.ask(f"os.stat({str(path)!r})")
    for name in ("/home", "/root/.ssh", "/mnt", "/etc/shadow"):
        assert "FileNotFoundError" in await instance.ask(f"os.stat({name!r})")
    run = "[name for name in os.listdir('/run') if name not in ('.containerenv', 'secrets')]"  # podman's
    assert await instance.ask(f"os.path.exists('/run') and {run} or []") == "[]"


@pytest.mark.promise("model-read-only")
async def test_model_folder_and_system_are_read_only(sandbox: Bench) -> None:
    instance = await sandbox.ready()
    for path in ("/opt/ml/model/x", "/opt/ml/model/code/x", "/usr/x", "/etc/x", "/x", "/dev/x"):
        tried = await instance.ask(f"open({path!r}, 'a')")
        assert "Errno 30" in tried or (sandbox.engine.name == "docker" and "Errno 13" in tried)
    assert await instance.ask("os.access('/opt/ml/model/code/inference.py', os.W_OK)") == "False"


@pytest.mark.promise("additional-data")
async def test_additional_data_is_at_its_place_and_read_only(sandbox: Bench) -> None:
    data = sandbox.folder / "models" / "additional" / "content"
    (data / "adapter").mkdir(parents=True)
    (data / "adapter" / "weights").write_text("42", encoding="utf-8")
    instance = await (await sandbox.start(sandbox.model(OBEDIENT), additional=data)).is_ready()
    other = await sandbox.ready(name="other")
    place = "/opt/ml/additional-model-data-sources"
    assert await instance.ask(f"Path({place!r}, 'adapter/weights').read_text()") == "'42'"
    for name in ("x", "adapter/x"):
        assert "Errno 30" in await instance.ask(f"open('{place}/{name}', 'a')")
    assert "Errno" in await instance.ask(f"open('{place}/adapter/weights', 'a')")
    assert await other.ask(f"os.path.exists('{place}/adapter')") == "False"


async def test_many_models_come_and_go_while_the_instance_runs_and_it_cannot_write_them(sandbox: Bench) -> None:
    folder = sandbox.folder / "models" / ".instances" / "i" / "primary"
    folder.mkdir(parents=True)
    instance = await (await sandbox.start(sandbox.model(OBEDIENT), models=folder)).is_ready()
    other = await sandbox.ready(name="other")
    place = "/opt/ml/models"
    assert await instance.ask(f"os.listdir('{place}')") == "[]"
    (folder / "m" / "model").mkdir(parents=True)
    (folder / "m" / "model" / "weights").write_text("42", encoding="utf-8")
    assert await instance.ask(f"Path({place!r}, 'm/model/weights').read_text()") == "'42'"
    for name in ("x", "m/x", "m/model/x"):
        assert "Errno 30" in await instance.ask(f"open('{place}/{name}', 'a')")
    assert await other.ask(f"os.path.exists('{place}/m')") == "False"
    shutil.rmtree(folder / "m")
    assert await instance.ask(f"os.listdir('{place}')") == "[]"


@pytest.mark.promise("temporary-folders")
async def test_temporary_folders_are_the_instances_own(any_engine: AnyBench) -> None:
    neighbour, instance = await any_engine.ready(name="neighbour"), await any_engine.ready()
    for folder in ("/tmp", "/dev/shm"):
        assert await neighbour.ask(f"Path({folder!r}, 'mine').write_text('x')") == "1"
        assert await instance.ask(f"os.listdir({folder!r})") == "[]"


async def test_environment_below_tmp_stays_visible_in_the_private_tmp(sandbox: Bench) -> None:
    package = sandbox.folder / "packages"
    package.mkdir()
    (package / "extra.py").write_text("answer = 42\n", encoding="utf-8")
    above = Environment("above", PYTHON, (Path(sys.base_prefix), package), (), ())
    model = sandbox.model(f"import sys\nsys.path.append({str(package)!r})\n{OBEDIENT}\nimport extra\n")
    instance = await sandbox.start(model, environment=above)
    await instance.is_ready()
    assert await instance.ask("extra.answer") == "42"


@pytest.mark.promise("files")
async def test_models_open_files_are_its_own(engine: Bench) -> None:
    instance = await engine.ready()
    opened = await instance.ask("[os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n != '99']")
    assert str(engine.folder / "models") not in opened
    assert "state.db" not in opened


@pytest.mark.promise("files")
async def test_nothing_of_the_machines_own_is_there(any_engine: AnyBench, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("secret", encoding="utf-8")
    instance = await any_engine.ready()
    for path in (tmp_path / "state.db", Path(__file__), Path("/etc/shadow"), Path("/var/lib/dpkg/status")):
        assert path.exists()
        assert "FileNotFoundError" in await instance.ask(f"open({str(path)!r}).read()")
