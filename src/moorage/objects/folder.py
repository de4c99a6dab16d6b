"""The embedded store: objects as files in a folder, with an index beside them.

The order that makes it safe: a body is written to a blob under a name of its own and brought to the disk; then one
transaction of the index gives it its key, and takes the key from the blob that had it; then that one is removed. A
crash in between leaves at most a blob that no row names, which ``sweep`` removes. Several processes may use the same
folder at once.
"""

import base64
import os
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Settings
from moorage.kms.ring import KeyRing, open_ring
from moorage.objects import listing, rows
from moorage.objects.blobs import BlobLink
from moorage.objects.copying import CopyOut
from moorage.objects.folder_uploads import FolderUploads
from moorage.objects.reader import BlobBytes, FileReader
from moorage.objects.sealing import Sealing, etag_of, way_of
from moorage.objects.store import (
    ALWAYS,
    PLAIN,
    BodyCheck,
    Bucket,
    Checksum,
    Condition,
    Description,
    Encryption,
    FileSpan,
    ObjectInfo,
    Page,
    SourceCheck,
    accept,
    accept_source,
)
from moorage.objects.workshop import Workshop

_OVERTAKEN_TIMES = 100
"""How often a read begins anew because the object was replaced between the look at the index and at the file."""


class FolderStore:
    """Buckets and objects in a folder, made when first used."""

    def __init__(self, folder: Path, clock: Clock, ids: Ids, ring: KeyRing) -> None:
        """``ring`` has the keys of what is encrypted; it is asked for nothing else."""
        self._clock = clock
        self._workshop = Workshop(folder)
        self._sealing = Sealing(ring)
        self._uploads = FolderUploads(self._workshop, self._sealing, clock, ids)

    @property
    def uploads(self) -> FolderUploads:
        """Multipart uploads."""
        return self._uploads

    async def sweep(self) -> int:
        """Remove what crashes have left; tells how many files. Safe while others write."""
        return await self._workshop.sweep()

    def close(self) -> None:
        """Wait for what is being done and let go of everything."""
        self._workshop.close()

    async def create_bucket(self, name: str, *, account: str, region: str) -> Bucket:
        """Make a bucket; raises BucketExists."""
        bucket = Bucket(name, account, region, self._clock.now())

        def change(connection: Connection) -> Sequence[str]:
            rows.create_bucket(connection, bucket)
            return ()

        await self._workshop.write(change)
        return bucket

    async def bucket(self, name: str) -> Bucket:
        """Give a bucket; raises NoSuchBucket."""
        return await self._workshop.read(lambda connection: rows.find_bucket(connection, name))

    async def buckets(self, account: str) -> Sequence[Bucket]:
        """List an account's buckets by name."""
        return await self._workshop.read(lambda connection: rows.list_buckets(connection, account))

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket and its unfinished uploads; raises NoSuchBucket, BucketNotEmpty."""
        await self._workshop.write(lambda connection: rows.delete_bucket(connection, name))

    async def put(  # noqa: PLR0913 - an object, what is said of it, and what must hold
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes] | FileSpan,
        description: Description = PLAIN,
        *,
        digests: Collection[str] = (),
        check: BodyCheck = accept,
        checksum: str | None = None,
        condition: Condition = ALWAYS,
        etag: str | None = None,
        encryption: Encryption | None = None,
    ) -> ObjectInfo:
        """Keep an object, in place of what the key had; see ObjectStore."""
        await self.bucket(bucket)  # before a gigabyte is read for nothing
        kept, data_key = await self._begin(encryption, bucket, key)
        wanted = {*digests, *([checksum] if checksum else []), *([] if etag else ["md5"])}
        blob = await self._workshop.receive(body, wanted, data_key)
        try:
            values = blob.digests()
            check(values)
            made = ObjectInfo(
                bucket=bucket,
                key=key,
                size=blob.size,
                etag=etag or etag_of(values["md5"], kept),
                modified_at=self._clock.now(),
                description=description,
                checksum=Checksum(checksum, base64.b64encode(values[checksum]).decode()) if checksum else None,
                encryption=kept,
            )
            await self._workshop.keep(blob, lambda connection: rows.put_object(connection, made, blob.name, condition))
        finally:
            await self._workshop.work(blob.close)
        return made

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Give an object without its bytes; raises NoSuchBucket, NoSuchKey."""
        info, _ = await self._find(bucket, key)
        return info

    async def open(self, bucket: str, key: str) -> FileReader:
        """Open an object for reading; raises NoSuchBucket, NoSuchKey, KeyUnusable."""
        for _ in range(_OVERTAKEN_TIMES):
            info, blob = await self._find(bucket, key)
            try:
                descriptor = await self._workshop.work(partial(self._workshop.blobs.open, blob), os.close)
            except FileNotFoundError:
                continue
            try:
                content = await self._workshop.work(partial(self._content, info, descriptor))
            except BaseException:
                await self._workshop.work(partial(os.close, descriptor))
                raise
            return FileReader(info, descriptor, content, self._workshop)
        raise _lost(bucket, key)

    async def copy_out(self, wanted: Sequence[tuple[ObjectInfo, Path]]) -> Sequence[tuple[ObjectInfo, Path]]:
        """Write objects into new files that everybody may read; faster than to read them, and flat in memory.

        Gives those that are left for ``open``: they are encrypted, or not the same as ``wanted`` any more.
        """

        def find(connection: Connection) -> list[str | None]:
            return [rows.find_plain(connection, info) for info, _path in wanted]

        blobs = await self._workshop.read(find)
        given = [(blob, path) for blob, (_, path) in zip(blobs, wanted, strict=True) if blob is not None]
        copy = CopyOut(self._workshop.blobs.open, given)
        try:
            while await self._workshop.work(copy.step):
                pass
        finally:
            await self._workshop.work(copy.close)
        made = {path for _, path in given}.difference(copy.gone)
        return [(info, path) for info, path in wanted if path not in made]

    def _content(self, info: ObjectInfo, descriptor: int) -> BlobBytes:
        data_key = self._sealing.data_key(info.encryption, info.bucket, info.key) if info.encryption else None
        return BlobBytes(descriptor, info.size, data_key)

    async def delete(self, bucket: str, key: str, *, condition: Condition = ALWAYS) -> None:
        """Remove an object; one that is not there is no fault. Raises NoSuchBucket, PreconditionFailed."""
        await self._workshop.write(lambda connection: rows.delete_object(connection, bucket, key, condition))

    async def copy(  # noqa: PLR0913 - two places, and what must hold at each
        self,
        source: tuple[str, str],
        bucket: str,
        key: str,
        description: Description | None = None,
        *,
        check_source: SourceCheck = accept_source,
        condition: Condition = ALWAYS,
        encryption: Encryption | None = None,
    ) -> ObjectInfo:
        """Give an object a second key; its bytes are shared, for blobs never change. See ObjectStore.

        Encrypted bytes are shared too: their data key is sealed a second time. Only when the two objects are not
        encrypted in the same way, the bytes are written anew.
        """
        for _ in range(_OVERTAKEN_TIMES):
            info, blob = await self._find(*source)
            check_source(info)
            if way_of(info.encryption) is not way_of(encryption):
                return await self._rewrite(source, bucket, key, description, check_source, condition, encryption)
            kept = await self._workshop.work(partial(self._again, info, encryption, bucket, key))
            made = replace(
                info,
                bucket=bucket,
                key=key,
                modified_at=self._clock.now(),
                description=description or info.description,
                encryption=kept,
            )
            try:
                link = await self._workshop.work(partial(self._workshop.blobs.link, blob), BlobLink.close)
            except FileNotFoundError:
                continue
            await self._keep_link(link, made, condition)
            return made
        raise _lost(*source)

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        """List what comes after a key or a common prefix; raises NoSuchBucket."""

        def ask(connection: Connection) -> Page:
            rows.find_bucket(connection, bucket)
            return listing.list_page(connection, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

        return await self._workshop.read(ask)

    async def _rewrite(  # noqa: PLR0913, PLR0917 - what copy is given
        self,
        source: tuple[str, str],
        bucket: str,
        key: str,
        description: Description | None,
        check_source: SourceCheck,
        condition: Condition,
        encryption: Encryption | None,
    ) -> ObjectInfo:
        reader = await self.open(*source)
        try:
            info = reader.info
            check_source(info)
            return await self.put(
                bucket,
                key,
                reader.chunks(),
                description or info.description,
                checksum=info.checksum.algorithm if info.checksum else None,
                condition=condition,
                encryption=encryption,
            )
        finally:
            await reader.close()

    async def _begin(
        self, encryption: Encryption | None, bucket: str, key: str
    ) -> tuple[Encryption | None, bytes | None]:
        """Give what is to be kept of an encryption, and the data key; raises KeyUnusable."""
        if encryption is None:
            return None, None
        return await self._workshop.work(partial(self._sealing.begin, encryption, bucket, key))

    def _again(self, source: ObjectInfo, encryption: Encryption | None, bucket: str, key: str) -> Encryption | None:
        """Give what is to be kept of the encryption of a copy whose bytes are those of its source."""
        if source.encryption is None or encryption is None:
            return None
        data_key = self._sealing.data_key(source.encryption, source.bucket, source.key)
        return self._sealing.again(data_key, encryption, bucket, key)

    async def _find(self, bucket: str, key: str) -> tuple[ObjectInfo, str]:
        return await self._workshop.read(lambda connection: rows.find_object(connection, bucket, key))

    async def _keep_link(self, link: BlobLink, made: ObjectInfo, condition: Condition) -> None:
        try:
            await self._workshop.keep(link, lambda connection: rows.put_object(connection, made, link.name, condition))
        finally:
            await self._workshop.work(link.close)


def _lost(bucket: str, key: str) -> OSError:
    return OSError(f"the bytes of {key!r} in bucket {bucket!r} are missing from the store's folder")


def open_store(settings: Settings, clock: Clock, ids: Ids) -> FolderStore:
    """Give the object store of an installation."""
    return FolderStore(settings.data_dir / "objects", clock, ids, open_ring(settings, clock, ids))
