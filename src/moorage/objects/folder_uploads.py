"""Multipart uploads of the folder store: parts are blobs, and completing one writes them into a blob of their own."""

import base64
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from sqlite3 import Connection

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.objects import rows, upload_rows
from moorage.objects.blobs import BlobFolder, BlobWriter
from moorage.objects.digests import digest_of
from moorage.objects.faults import BadDigest, NoSuchUpload
from moorage.objects.reader import read_pieces
from moorage.objects.sealing import Sealing, etag_of
from moorage.objects.store import (
    ALWAYS,
    BodyCheck,
    Checksum,
    Condition,
    Description,
    Encryption,
    NamedPart,
    ObjectInfo,
    Part,
    Upload,
    accept,
)
from moorage.objects.upload_rows import KeptPart
from moorage.objects.workshop import Workshop


class FolderUploads:
    """Multipart uploads in a folder store."""

    def __init__(self, workshop: Workshop, sealing: Sealing, clock: Clock, ids: Ids) -> None:
        self._workshop = workshop
        self._sealing = sealing
        self._clock = clock
        self._ids = ids

    async def start(  # noqa: PLR0913 - an object to be, and what is said of it
        self,
        bucket: str,
        key: str,
        description: Description,
        *,
        algorithm: str | None = None,
        kind: str = "COMPOSITE",
        encryption: Encryption | None = None,
    ) -> Upload:
        """Begin one; raises NoSuchBucket, KeyUnusable."""
        if encryption is not None:
            encryption, _ = await self._workshop.work(partial(self._sealing.begin, encryption, bucket, key))
        now = self._clock.now()
        upload = Upload(self._ids.request_id(), bucket, key, now, description, algorithm, kind, encryption)

        def change(connection: Connection) -> Sequence[str]:
            upload_rows.start_upload(connection, upload)
            return ()

        await self._workshop.write(change)
        return upload

    async def find(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Give one; raises NoSuchUpload."""
        return await self._workshop.read(lambda connection: upload_rows.find_upload(connection, bucket, key, upload_id))

    async def put_part(
        self,
        upload: Upload,
        number: int,
        body: AsyncIterator[bytes],
        *,
        digests: Collection[str] = (),
        check: BodyCheck = accept,
    ) -> Part:
        """Keep a part, in place of one of the same number; raises NoSuchUpload, KeyUnusable."""
        algorithm = upload.algorithm
        wanted = {"md5", *digests} | ({algorithm} if algorithm else set())
        blob = await self._workshop.receive(body, wanted, await self._data_key(upload))
        try:
            values = blob.digests()
            check(values)
            part = Part(
                number=number,
                size=blob.size,
                etag=etag_of(values["md5"], upload.encryption),
                modified_at=self._clock.now(),
                checksum=_full(algorithm, values[algorithm]) if algorithm else None,
            )
            await self._workshop.keep(
                blob,
                lambda connection: upload_rows.put_part(connection, upload, KeptPart(part, blob.name)),
            )
        finally:
            await self._workshop.work(blob.close)
        return part

    async def complete(
        self, upload: Upload, parts: Sequence[NamedPart], *, checksum: str | None = None, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        """Make the object of the parts; see Uploads."""
        there = await self._kept(upload, after=0, limit=-1)
        chosen = upload_rows.choose_parts(upload, there, parts)
        whole = upload.algorithm if upload.kind == "FULL_OBJECT" else None
        data_key = await self._data_key(upload)
        blob = await self._workshop.begin([whole] if whole else [], data_key)
        try:
            await self._workshop.work(lambda: _join(self._workshop.blobs, upload, chosen, data_key, blob))
            made = ObjectInfo(
                bucket=upload.bucket,
                key=upload.key,
                size=blob.size,
                etag=etag_of_parts(chosen),
                modified_at=self._clock.now(),
                description=upload.description,
                checksum=_full(whole, blob.digests()[whole]) if whole else composite_checksum(upload, chosen),
                encryption=upload.encryption,
            )
            if checksum is not None and (made.checksum is None or made.checksum.value != checksum):
                raise BadDigest(upload.algorithm or "checksum")
            await self._workshop.keep(blob, _completion(upload, chosen, made, blob.name, condition))
        finally:
            await self._workshop.work(blob.close)
        return made

    async def _data_key(self, upload: Upload) -> bytes | None:
        """Open the key of an upload's parts; None: they are not encrypted. Raises KeyUnusable."""
        encryption = upload.encryption
        if encryption is None:
            return None
        return await self._workshop.work(partial(self._sealing.data_key, encryption, upload.bucket, upload.key))

    async def abort(self, upload: Upload) -> None:
        """Forget it and its parts."""
        await self._workshop.write(lambda connection: upload_rows.remove_upload(connection, upload))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> Sequence[Part]:
        """List its parts in order from the one after a number."""
        return [kept.part for kept in await self._kept(upload, after=after, limit=limit)]

    async def list(
        self, bucket: str, *, prefix: str = "", after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> Sequence[Upload]:
        """List a bucket's uploads by key and id, from the one after a pair of them."""
        return await self._workshop.read(
            lambda connection: upload_rows.list_uploads(connection, bucket, prefix=prefix, after=after, limit=limit)
        )

    async def _kept(self, upload: Upload, *, after: int, limit: int) -> Sequence[KeptPart]:
        return await self._workshop.read(
            lambda connection: upload_rows.list_parts(connection, upload, after=after, limit=limit)
        )


def etag_of_parts(parts: Sequence[KeptPart]) -> str:
    """Give S3's ETag of a multipart object: the MD5 of the parts' MD5s, and their number."""
    joined = b"".join(bytes.fromhex(kept.part.etag) for kept in parts)
    return f"{digest_of('md5', joined).hex()}-{len(parts)}"


def composite_checksum(upload: Upload, parts: Sequence[KeptPart]) -> Checksum | None:
    """Give S3's composite checksum: that of the parts' checksums, and their number."""
    if upload.algorithm is None:
        return None
    joined = b"".join(base64.b64decode(kept.part.checksum.value) for kept in parts if kept.part.checksum)
    value = base64.b64encode(digest_of(upload.algorithm, joined)).decode()
    return Checksum(upload.algorithm, f"{value}-{len(parts)}", "COMPOSITE")


def _full(algorithm: str, value: bytes) -> Checksum:
    return Checksum(algorithm, base64.b64encode(value).decode())


def _completion(
    upload: Upload, chosen: Sequence[KeptPart], made: ObjectInfo, blob: str, condition: Condition
) -> Callable[[Connection], Sequence[str]]:
    def change(connection: Connection) -> Sequence[str]:
        there = upload_rows.list_parts(connection, upload, after=0, limit=-1)
        if not {kept.blob for kept in chosen} <= {kept.blob for kept in there}:
            raise NoSuchUpload(upload.upload_id)  # a part was replaced since: the object would be of none
        replaced = rows.put_object(connection, made, blob, condition)
        return [*replaced, *upload_rows.remove_upload(connection, upload)]

    return change


def _join(
    blobs: BlobFolder, upload: Upload, parts: Sequence[KeptPart], data_key: bytes | None, into: BlobWriter
) -> None:
    for kept in parts:
        try:
            descriptor = blobs.open(kept.blob)
        except FileNotFoundError as fault:
            raise NoSuchUpload(upload.upload_id) from fault  # aborted or completed meanwhile
        try:
            into.write(read_pieces(descriptor, kept.part.size, data_key))
        finally:
            os.close(descriptor)
