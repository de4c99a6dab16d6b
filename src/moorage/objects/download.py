"""Objects into files."""

import asyncio
from pathlib import Path

from moorage.objects.faults import NoSuchKey
from moorage.objects.store import ObjectInfo, ObjectStore, parse_s3_uri


async def read_to_file(store: ObjectStore, uri: str, path: Path) -> ObjectInfo:
    """Write the object of an ``s3://`` URI into a new file, a bounded piece at a time, and tell what it was.

    Raises UnusableUri, NoSuchBucket, NoSuchKey, OSError; the file is removed then.
    """
    bucket, key = parse_s3_uri(uri)
    if not key:
        raise NoSuchKey(key)
    reader = await store.open(bucket, key)
    try:
        file = await asyncio.to_thread(path.open, "xb")
        try:
            async for chunk in reader.chunks():
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(file.close)
        except BaseException:
            file.close()
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise
        return reader.info
    finally:
        await reader.close()
