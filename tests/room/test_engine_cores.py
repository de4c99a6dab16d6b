"""Core files: which are found, under what names, and what a model cannot make of it."""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.engine import cores

needs_cores = pytest.mark.skipif(bool(cores.why_not_found()), reason=cores.why_not_found())


def machine(folder: Path, pattern: str) -> Path:
    """Be a machine with a pattern for core files."""
    (folder / "core_pattern").write_text(f"{pattern}\n", encoding="utf-8")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    working, taken = tmp_path / "working", tmp_path / "taken"
    working.mkdir()
    taken.mkdir()
    return working, taken


def crash(working: Path, how: str = "os.kill(os.getpid(), 6)") -> None:
    """Let a process end with a core file."""
    subprocess.run(
        [sys.executable, "-c", f"import os; {how}"],
        cwd=working,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (2**30, 2**30)),
    )


def take(folders: tuple[Path, Path]) -> list[cores.Core]:
    return cores.take(*folders, cores.file_names())


@needs_cores
def test_core_is_named_by_program_process_and_time(folders: tuple[Path, Path]) -> None:
    crash(folders[0])
    (core,) = take(folders)
    assert core.signal == "SIGABRT"
    assert core.path.parent == folders[1]
    assert core.path.name == f"core.{core.program}.{core.pid}.{core.written_at}"
    assert str(core) == f"core dump of process {core.pid} (SIGABRT)"
    assert list(folders[0].iterdir()) == []
    assert cores.taken(folders[1]) == [core]


@needs_cores
def test_core_that_is_still_written_is_left_for_later(folders: tuple[Path, Path]) -> None:
    crash(folders[0])
    (file,) = folders[0].iterdir()
    with file.open("r+b"):
        assert take(folders) == []
    assert len(take(folders)) == 1


@needs_cores
def test_two_of_one_name_are_both_kept(folders: tuple[Path, Path]) -> None:
    crash(folders[0])
    (first,) = take(folders)
    (folders[0] / "core").hardlink_to(first.path)
    (second,) = take(folders)
    assert second.path.name == f"{first.path.name}-1"
    assert first.path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"the core of an apple",
        b"\x7fELF\x02\x01" + bytes(1000),
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\0" + b"\xff" * 200,
        Path(sys.executable).resolve().read_bytes()[:65536],
    ],
    ids=["empty", "short", "text", "zeros", "wild", "program"],
)
def test_what_is_no_core_file_is_left_where_it_is(folders: tuple[Path, Path], content: bytes) -> None:
    (folders[0] / "core").write_bytes(content)
    assert take(folders) == []
    assert (folders[0] / "core").read_bytes() == content


@needs_cores
def test_link_to_a_core_file_elsewhere_is_not_followed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    crash(elsewhere)
    (file,) = elsewhere.iterdir()
    (folders[0] / "core").symlink_to(file)
    os.mkfifo(folders[0] / "core.1")
    (folders[0] / "core.2").mkdir()
    assert take(folders) == []
    assert file.exists()


@needs_cores
async def test_name_of_a_program_is_fit_for_an_object(folders: tuple[Path, Path]) -> None:
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b'a/b c\\xff', 0, 0, 0); os.kill(os.getpid(), 11)"
    await asyncio.to_thread(crash, folders[0], name)
    (core,) = take(folders)
    assert core.program == "a_b_c_"
    assert core.path.parent == folders[1]


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("core", ["core", "core.17"], ["score", "core.x", "coreutils"]),
        ("core.%e.%p", ["core.python.17", "core.a b.1"], ["core", "x.core.python.17"]),
        ("%e+dump", ["python+dump", "x+dump.3"], ["dump", "pythondump"]),
    ],
)
def test_files_are_found_by_the_machines_pattern(
    tmp_path: Path, pattern: str, names: list[str], others: list[str]
) -> None:
    found = cores.file_names(machine(tmp_path, pattern))
    assert [name for name in names + others if found.fullmatch(name)] == names
    assert cores.why_not_found(tmp_path) == ""


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("|/usr/share/apport/apport -p%p", "the kernel hands core files to a program (core_pattern |/usr/share/apport"),
        ("/var/crash/core.%p", "the kernel writes core files elsewhere (core_pattern /var/crash/core.%p)"),
    ],
)
def test_machine_that_takes_cores_away_is_named(tmp_path: Path, pattern: str, said: str) -> None:
    assert said in cores.why_not_found(machine(tmp_path, pattern))


@needs_cores
def test_cores_of_folders_below_are_found_when_they_are_asked_for(folders: tuple[Path, Path]) -> None:
    (below := folders[0] / "app" / "work").mkdir(parents=True)
    crash(below)
    assert take(folders) == []
    (core,) = cores.take(*folders, cores.file_names(), below=True)
    assert core.path.parent == folders[1]
