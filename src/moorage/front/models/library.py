"""The files of models: fetched into this machine's cache, and linked into the folder that one instance sees.

    FOLDER/NAME/model/...      what the container sees, read-only, at ``/opt/ml/models/NAME/model``

The files of a model are the same ones as in the cache under second names. They are replaced only while the model is
not loaded: what was changed in the object store is taken the next time that it is loaded.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from moorage.base.removal import remove_tree
from moorage.base.settings import Limits
from moorage.engine.artifacts import ArtifactFailure
from moorage.engine.built_folder import link_tree
from moorage.engine.contract import ModelSource
from moorage.objects.faults import NoSuchBucket, NoSuchKey

_ATTEMPTS = 3
"""The node agent may remove what is in the cache before it is linked."""

Progress = Callable[[str], None]


class Artifacts(Protocol):
    """What is needed of ``engine.artifacts``."""

    async def fetch(self, source: ModelSource, progress: Progress, holder: str, account: str | None) -> Path:
        """Give the folder of the extracted artefact, of an account's bucket; raises ArtifactFailure."""

    async def with_code(self, model: Path | None, code: Path, holder: str) -> Path:
        """Give a model's folder with another artefact as its folder ``code``; raises ArtifactFailure."""

    def release(self, holder: str) -> None:
        """Say that a holder needs nothing any more."""


class NoSuchModel(Exception):
    """There is no object at the model's URI, or it cannot be read."""


class Library:
    """The files of one container's models."""

    def __init__(  # noqa: PLR0913 - where they come from, and where they are
        self, artifacts: Artifacts, folder: Path, *, seen_at: str, account: str, code: str | None, limits: Limits
    ) -> None:
        """``seen_at`` is where the container has ``folder``; ``code`` is a URI of code that all models have.

        Models are the ``account``'s.
        """
        self._artifacts = artifacts
        self._folder = folder
        self._seen_at = seen_at
        self._account = account
        self._code = code
        self._limits = limits
        self._contents: dict[str, str] = {}
        """Which content of the cache a model's files are."""

    def is_full(self) -> bool:
        """Say whether there is too little room on the disk; blocks."""
        return shutil.disk_usage(self._folder).free < self._limits.disk_reserve_bytes

    def names(self) -> list[str]:
        """Name the models whose files are there, and remove what is unfinished; blocks."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        names = [entry.name for entry in self._folder.iterdir()]
        for name in names:
            if name.startswith("."):
                remove_tree(self._folder / name)
        return [name for name in names if not name.startswith(".")]

    async def bring(self, name: str, uri: str) -> str:
        """Have a model's files in their place, which is given as the container sees it.

        Raises NoSuchModel, ArtifactFailure.
        """
        for attempt in range(_ATTEMPTS):
            try:
                content = await self._content(name, uri)
                if self._contents.get(name) != content.parent.name:
                    await asyncio.to_thread(self._put, name, content)
                    self._contents[name] = content.parent.name
                return f"{self._seen_at}/{name}/model"
            except ArtifactFailure as fault:
                if isinstance(fault.__cause__, NoSuchKey | NoSuchBucket):
                    raise NoSuchModel(str(fault)) from fault
                raise
            except (FileNotFoundError, shutil.Error) as fault:
                if attempt + 1 == _ATTEMPTS:
                    raise ArtifactFailure(f"The model data of {uri} could not be put in place: {fault}") from fault
            except OSError as fault:
                raise ArtifactFailure(f"The model data could not be stored: {fault.strerror or fault}.") from fault
            finally:
                self._artifacts.release(name)
        raise AssertionError

    async def remove(self, name: str) -> None:
        """Remove a model's files; those of the cache stay, as long as there is room."""
        self._contents.pop(name, None)
        await asyncio.to_thread(self._take_away, name)

    async def _content(self, name: str, uri: str) -> Path:
        content = await self._artifacts.fetch(ModelSource(uri), _tell_nobody, name, self._account)
        if self._code is None:
            return content
        code = await self._artifacts.fetch(ModelSource(self._code), _tell_nobody, name, self._account)
        return await self._artifacts.with_code(content, code, name)

    def _put(self, name: str, content: Path) -> None:
        """Link a model's files; nobody sees half of it. Blocks."""
        new = self._folder / f".{name}.{secrets.token_hex(4)}"
        new.mkdir(mode=0o755)
        try:
            link_tree(content, new / "model")
            self._take_away(name)
            new.rename(self._folder / name)
        except BaseException:
            remove_tree(new)
            raise

    def _take_away(self, name: str) -> None:
        doomed = self._folder / f".{name}.{secrets.token_hex(4)}"
        try:
            (self._folder / name).rename(doomed)
        except FileNotFoundError:
            return
        remove_tree(doomed)


def _tell_nobody(_line: str) -> None:
    """Tell nobody how far a download is: no place shows it."""
