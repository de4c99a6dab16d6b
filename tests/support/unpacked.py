"""The image engine ``sandbox`` for tests: with a folder for everything, and images that come from where a test says."""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.containers import ImageBench
from tests.support.images import Image

from moorage.base.clock import SystemClock
from moorage.base.settings import Limits
from moorage.engine.cgroups import Cgroups, find_hierarchies
from moorage.engine.references import parse_reference
from moorage.engine.registry.client import RegistryClient
from moorage.engine.rootfs.engine import IdRanges, UnpackedImages
from moorage.engine.rootfs.pull import Images
from moorage.engine.rootfs.store import ImageStore, KnownImage
from moorage.serving.isolation import adopt_orphans


@dataclass(kw_only=True)
class UnpackedBench(ImageBench):
    """The engine, and what is below it."""

    images: Images
    store: ImageStore

    async def add(self, image: Image, name: str = "tests/image:1") -> str:
        """Add an image as an archive; gives what a launch names it by."""
        archive = image.archive(self.folder / "image.tar", name)
        known = await self.images.add_archive(name, archive, lambda _: None)
        archive.unlink()
        return parse_reference(name).pinned(known.digest)

    async def known(self, name: str) -> KnownImage:
        """Look an image up that was added."""
        named = self.store.find_name(parse_reference(name))
        assert named is not None
        found = self.store.find(named.digest)
        assert found is not None
        return found


def make_images(
    folder: Path, *, mirrors: Mapping[str, str] | None = None, plain: tuple[str, ...] = (), **limits: Any
) -> tuple[Images, ImageStore]:
    """Make the images of a folder; ``limits`` are members of Limits."""
    store = ImageStore(folder / "images")
    client = RegistryClient(folder / "docker" / "config.json", plain)
    return Images(store, client, replace(Limits(), **limits), SystemClock(), mirrors or {}), store


@asynccontextmanager
async def unpacked_bench(folder: Path, library: Path | None = None, **parts: Any) -> AsyncIterator[UnpackedBench]:
    """Have the engine; what still runs at the end is killed. ``library``: where images are, which tests may share."""
    adopt_orphans()
    images, store = make_images(library or folder, **parts)
    cgroups = Cgroups(find_hierarchies(f"moorage-test-{os.getpid()}-{folder.name}"))
    ids = IdRanges(str(folder)) if os.geteuid() == 0 else None
    engine = UnpackedImages(images, store, cgroups, stage=folder / "stage", ids=ids)
    sockets = Path(tempfile.mkdtemp(prefix="moorage-"))
    made = UnpackedBench(folder, sockets, engine, images=images, store=store)
    try:
        yield made
    finally:
        await made.close()
        cgroups.close()
