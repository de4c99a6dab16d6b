"""Whether model data is there, asked when a model is made of it."""

import asyncio

from moorage.engine.contract import ModelSource
from moorage.objects.faults import NoSuchBucket, NoSuchKey, UnusableUri
from moorage.objects.places import S3Place, WebPlace, parse_place
from moorage.objects.store import ObjectStore
from moorage.objects.web import Web, WebRefused

_WEB_SECONDS = 10.0
"""For a web server's answer: an API's caller waits for it."""


class DataFinder:
    """Looks in the object store, and at web servers."""

    def __init__(self, objects: ObjectStore, web: Web) -> None:
        self._objects = objects
        self._web = web

    async def has_data(self, account: str, source: ModelSource) -> bool:
        """Say whether there is something that an account may use: nobody serves what is in another's bucket.

        What is there may still be refused once it is read. The manifest is not looked at.
        """
        try:
            place = parse_place(source.uri)
            if isinstance(place, WebPlace):
                return await self._answers(place)
            below = source.data_type == "S3Prefix"
            if below and source.compression == "Gzip":  # many models, which come and go: none need be there yet
                return await self._has_bucket(account, place)
            return await self._has_objects(account, place, below=below)
        except (NoSuchKey, NoSuchBucket, UnusableUri):
            return False

    async def _has_bucket(self, account: str, place: S3Place) -> bool:
        return (await self._objects.bucket(place.bucket)).account == account

    async def _has_objects(self, account: str, place: S3Place, *, below: bool) -> bool:
        if not await self._has_bucket(account, place):
            return False
        if below:
            return bool((await self._objects.list(place.bucket, prefix=place.key, limit=1)).objects)
        await self._objects.head(place.bucket, place.key)
        return True

    async def _answers(self, place: WebPlace) -> bool:
        try:
            async with asyncio.timeout(_WEB_SECONDS):
                reader = await self._web.open(place.uri)
                await reader.close()
        except (WebRefused, OSError):  # a time-out is an OSError
            return False
        return True
