"""Model data on this machine: fetched once, made into a folder once, shared by all instances."""

import asyncio
import contextlib
import errno
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from moorage.aws.errors import ServiceError
from moorage.base.clock import Clock
from moorage.base.removal import remove_tree
from moorage.base.settings import Limits
from moorage.engine.built_folder import build_once, clear_unfinished, lay_beside, lay_over, set_aside
from moorage.engine.contract import ModelSource
from moorage.engine.sources.faults import SourceRefused
from moorage.engine.sources.finding import Found, Sources, name_of
from moorage.engine.sources.opened import Store
from moorage.engine.sources.tree import Overtaken
from moorage.kms.faults import KeyUnusable
from moorage.objects.faults import NoSuchBucket, NoSuchKey, UnusableUri
from moorage.objects.web import Web, WebRefused

Progress = Callable[[str], None]

_OVERTAKEN_TIMES = 3
"""How often objects below a prefix are listed anew because one was replaced before it was read."""


class ArtifactFailure(Exception):
    """The model data cannot be had; the text is one sentence for people."""


def _never() -> bool:
    return False


def _nobody() -> None:
    """Tell nobody that it is waited for."""


class Artifacts:
    """The extracted artefacts in a folder, which several processes may use at once.

    Only one of them may ``sweep``: it knows of its own holders, the instances that it runs, and of no others.
    """

    def __init__(self, store: Store, folder: Path, limits: Limits, clock: Clock, web: Web | None = None) -> None:
        """``web`` reads what is at no store."""
        self._store = store
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._web = web or Web()
        self._sources = Sources(store, self._web, limits, clock)
        self._held: defaultdict[str, set[Path]] = defaultdict(set)
        """Folders by who needs them."""

    def at(self, folder: Path) -> "Artifacts":
        """Give the same store's artefacts in another folder, for one instance alone."""
        return Artifacts(self._store, folder, self._limits, self._clock, self._web)

    async def fetch(
        self, source: ModelSource, progress: Progress, holder: str = "", account: str | None = None
    ) -> Path:
        """Give the folder of model data: read-only, and the same for everybody who names the same content.

        The source is looked at each time: when it has changed, the new one is fetched. Until it is released, the
        ``holder`` has what was fetched. Of buckets only the ``account``'s are read (None: any). The caller sets the
        deadline. Raises ArtifactFailure.
        """
        url = source.uri
        try:
            try:
                return await self._fetch(source, progress, holder, account)
            except OSError as fault:
                if fault.errno != errno.ENOSPC or not await self.sweep(idle_seconds=0):
                    raise
                return await self._fetch(source, progress, holder, account)  # there is more room now
        except UnusableUri as fault:
            raise ArtifactFailure(f"The model data cannot be fetched: {fault}.") from fault
        except (NoSuchBucket, NoSuchKey) as fault:
            raise ArtifactFailure(f"There is no model data at {_which(source, fault)}: {fault.message}") from fault
        except ServiceError as fault:
            raise ArtifactFailure(f"The object store refused the model data at {url}: {fault.message}") from fault
        except KeyUnusable as fault:
            raise ArtifactFailure(f"The model data at {url} cannot be decrypted: {fault}") from fault
        except SourceRefused as fault:
            raise ArtifactFailure(f"{fault} ({url})") from fault
        except (WebRefused, ConnectionError, TimeoutError) as fault:
            raise ArtifactFailure(f"The model data at {url} cannot be downloaded: {fault}.") from fault
        except OSError as fault:
            reason = fault.strerror or str(fault)
            raise ArtifactFailure(f"The model data at {url} could not be stored: {reason}.") from fault

    async def _fetch(self, source: ModelSource, progress: Progress, holder: str, account: str | None) -> Path:
        for _ in range(_OVERTAKEN_TIMES):
            try:
                async with self._sources.find(source, account) as found:
                    folder = self._hold(found.name, holder)

                    async def build(unfinished: Path, found: Found = found) -> None:
                        await found.build(unfinished / "content", progress)

                    await self._once(folder, build, lambda: progress("waiting for the same download of another"))
                return folder / "content"
            except Overtaken:
                progress("the model data is changing: looking again")
        raise SourceRefused("The model data was changed again and again while it was downloaded.")

    async def _once(
        self, folder: Path, build: Callable[[Path], Awaitable[None]], waits: Callable[[], None] = _nobody
    ) -> None:
        await build_once(folder, build, clock=self._clock, waits=waits)

    def _hold(self, name: str, holder: str) -> Path:
        """Give a folder that is not swept away from now on, whether it is there already or not."""
        folder = self._folder / name
        self._held[holder].add(folder)
        return folder

    async def with_code(self, model: Path | None, code: Path, holder: str = "") -> Path:
        """Give a model's folder with another artefact as its folder ``code``; each as ``fetch`` gave it, or no model.

        The files are the same ones under second names. Raises ArtifactFailure.
        """
        parts = [folder.parent.name for folder in (model, code) if folder is not None]
        return await self._compose(name_of(*parts), holder, "The submitted code", partial(lay_over, model, code))

    async def side_by_side(self, channels: Mapping[str, Path], holder: str = "") -> Path:
        """Give a folder that has other artefacts, each as ``fetch`` gave it, by names; raises ArtifactFailure.

        The files are the same ones under second names.
        """
        parts = [text for name, folder in sorted(channels.items()) for text in (name, folder.parent.name)]
        name = name_of("channels", *parts)
        return await self._compose(name, holder, "The additional model data", partial(lay_beside, channels))

    async def _compose(self, name: str, holder: str, what: str, lay: Callable[[Path], None]) -> Path:
        folder = self._hold(name, holder)

        async def build(unfinished: Path) -> None:
            await asyncio.to_thread(lay, unfinished / "content")

        try:
            await self._once(folder, build)
        except OSError as fault:
            raise ArtifactFailure(f"{what} could not be stored: {fault.strerror or fault}.") from fault
        return folder / "content"

    def release(self, holder: str) -> None:
        """Say that a holder needs nothing any more."""
        for folder in self._held.pop(holder, ()):
            with contextlib.suppress(OSError):
                os.utime(folder)  # which says when it was used last; one system call: not worth a thread

    async def sweep(self, *, idle_seconds: float, enough: Callable[[], bool] = _never) -> list[Path]:
        """Remove the artefacts that nobody holds or has used for so long, until it is ``enough``; gives what went."""
        gone = []
        for path in await asyncio.to_thread(self._idle, self._clock.now() - idle_seconds):
            if await asyncio.to_thread(enough):
                break
            # From the look at the holders to the new name nothing else happens: a fetch finds the folder and holds
            # it, or finds none.
            if not any(path in held for held in self._held.values()) and (doomed := set_aside(path)):
                await asyncio.to_thread(remove_tree, doomed)
                gone.append(path)
        return gone

    async def clear_unfinished(self) -> None:
        """Remove what was left unfinished by a process that was killed, of content that nobody may ask for again."""
        await asyncio.to_thread(clear_unfinished, self._folder)

    def _idle(self, before: float) -> list[Path]:
        """Give the artefacts that were used last before a time, the oldest first."""
        if not self._folder.is_dir():
            return []
        found = [(path.stat().st_mtime, path) for path in self._folder.iterdir() if not path.name.startswith(".")]
        return [path for used, path in sorted(found) if used <= before]


def _which(source: ModelSource, fault: NoSuchBucket | NoSuchKey) -> str:
    """Say which of a source's objects is not there."""
    named = str(fault.members.get("Key") or fault.members.get("BucketName"))
    if source.manifest is not None and named in source.manifest:
        return source.manifest
    return source.uri
