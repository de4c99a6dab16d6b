"""Runs pip for a model's requirements in bubblewrap: a package from source runs code of its own when it is installed.

That code sees what the command names (the environment that is being built, and those below it), the system's folders,
pip's own settings, and the network, from which pip has the packages. It sees nothing else of the user or of Moorage.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from moorage.engine.commands import Command, Say, run_plainly
from moorage.engine.sandbox import (
    make_bind_arguments,
    make_folder_arguments,
    make_settings_arguments,
    make_system_arguments,
    same_place,
)

_PIP_FILES = (".config/pip/pip.conf", ".pip/pip.conf")
"""Settings of pip below the user's home."""

_PASSED_ON = (
    *("PIP_", "LANG", "LC_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
"""Beginnings of the names of variables that say how to reach a package index, in capital letters."""


class Installer:
    """Runs commands that may run the code of strangers."""

    def __init__(self, bubblewrap: str, *, scratch: Path) -> None:
        self._bubblewrap = bubblewrap
        self._scratch = scratch

    async def run(self, command: Command, say: Say) -> int:
        """Run a command, tell its lines, and give its exit code."""
        return await run_plainly(self.wrap(command, os.environ, Path.home()), say)

    def wrap(self, command: Command, variables: Mapping[str, str], home: Path) -> Command:
        """Make the command that runs this one in bubblewrap."""
        writable = [str(folder) for folder in command.writable]
        settings = list(_files_of_settings(variables, home))
        words = [
            *(self._bubblewrap, "--die-with-parent", "--cap-drop", "ALL"),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts"),
            *make_system_arguments(),
            *make_settings_arguments(self._scratch),
            *make_bind_arguments(same_place(command.readable)),
            *make_folder_arguments([*writable, *(str(Path(path).parent) for path in settings)]),
            *(word for folder in writable for word in ("--bind", folder, folder)),
            *(word for path in settings for word in ("--ro-bind-try", path, path)),
            *("--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", str(home)),
        ]
        passed_on = {name: value for name, value in variables.items() if name.upper().startswith(_PASSED_ON)}
        for name, value in (passed_on | dict(command.environment)).items():
            words += ["--setenv", name, value]
        words += ["--chdir", str(command.folder), "--"]
        return replace(command, arguments=[*words, *command.arguments])


def _files_of_settings(variables: Mapping[str, str], home: Path) -> Iterator[str]:
    """Give what pip's settings are read from, and the files and folders that variables name."""
    yield "/etc/pip.conf"
    for name in _PIP_FILES:
        yield str(home / name)
    for name, value in variables.items():
        if name.upper().startswith(_PASSED_ON):
            yield from (word for word in value.split() if word.startswith("/") and not word.startswith("/etc/"))
