"""The installer of models' own requirements in the sandbox: what the code of a package sees when it is built."""

import os
import shutil
import sys
from pathlib import Path

from tests.support.engines import PYTHON, Bench

from moorage.engine.commands import Command
from moorage.engine.installer import Installer
from moorage.engine.trees import read_processes


async def test_installer_sees_what_its_command_names_and_nothing_else(sandbox: Bench) -> None:
    target, source = sandbox.folder / "target", sandbox.folder / "source"
    target.mkdir()
    source.mkdir()
    (sandbox.folder / "state.db").write_text("secret", encoding="utf-8")
    look = f"import os; print(os.listdir({str(sandbox.folder)!r}), os.getpid()); open({str(target / 'made')!r}, 'w')"
    command = Command((str(PYTHON), "-Ic", look), source, (target,), (source, Path(sys.base_prefix)), {})
    said: list[str] = []
    installer = Installer(shutil.which("bwrap") or "bwrap", scratch=sandbox.folder / "sandbox")
    assert await installer.run(command, said.append) == 0, said
    assert eval(said[0].rpartition(" ")[0]) in (["target", "source"], ["source", "target"])
    assert (target / "made").exists()


async def test_installer_leaves_no_dead_process_behind(sandbox: Bench) -> None:
    (target := sandbox.folder / "target").mkdir()
    command = Command((str(PYTHON), "-Ic", "pass"), target, (target,), (Path(sys.base_prefix),), {})
    installer = Installer(shutil.which("bwrap") or "bwrap", scratch=sandbox.folder / "sandbox")
    before = {entry.pid for entry in read_processes()}
    for _ in range(5):
        assert await installer.run(command, lambda _: None) == 0
    assert [entry for entry in read_processes() if entry.parent == os.getpid() and entry.pid not in before] == []
