"""Has images on this machine: pulled once, named by their digest from then on."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from moorage.base.tasks import Tasks
from moorage.engine.credentials import Credentials, UnusableCredentials, find_credentials
from moorage.engine.docker.api import Api, DaemonGone, DaemonRefused
from moorage.engine.launch import ImageFailure, Progress
from moorage.engine.references import HUB, Reference, UnusableReference, mirrored, parse_reference

log = logging.getLogger(__name__)

_SILENT_SECONDS = 300.0
"""A pull of which nothing was heard for so long has failed."""

_STEP_PERCENT = 5
"""Progress is told in steps of this size."""


class Images:
    """The images of one daemon."""

    def __init__(self, api: Api, *, mirrors: Mapping[str, str], credentials: Path) -> None:
        """``mirrors``: by the pattern of a registry's host, who stands in for it; ``credentials``: Docker's file."""
        self._api = api
        self._mirrors = mirrors
        self._credentials = credentials
        self._tasks = Tasks()
        self._pulls: dict[str, _Pull] = {}

    async def has(self, image: str) -> bool:
        """Say whether this very image is on this machine, without asking a registry."""
        try:
            return await self._inspect(str(self._where(parse_reference(image)))) is not None
        except (UnusableReference, DaemonGone, DaemonRefused):
            return False

    async def ensure(self, image: str, progress: Progress) -> str:
        """Have an image, and give the name that stays with it: ``repository@sha256:digest``. Raises ImageFailure.

        A tag is asked for at its registry each time: who deploys wants what it says now. What is pinned by digest, or
        by the id of an image that was made on this machine, is only fetched where it is missing.
        """
        try:
            if image.startswith("sha256:"):
                return await self._own(image)
            reference = parse_reference(image)
            return await self._ensure(reference, self._where(reference), progress)
        except UnusableReference as fault:
            raise ImageFailure(str(fault)) from fault
        except (DaemonGone, DaemonRefused) as fault:
            raise ImageFailure(f"The image {image} could not be had: {fault}.") from fault

    async def _own(self, image_id: str) -> str:
        if await self._inspect(image_id) is None:
            raise ImageFailure(
                f"The image {image_id} was made on this machine and has been removed since. Build it again, and update "
                "the endpoint."
            )
        return image_id

    async def _ensure(self, reference: Reference, where: Reference, progress: Progress) -> str:
        if where.digest and await self._inspect(str(where)) is not None:
            return reference.pinned(where.digest)
        refusal = await self._pull_once(where, progress)
        found = await self._inspect(str(where))
        if found is None:
            raise ImageFailure(refusal or f"The image {reference} is not there after it was pulled.")
        if refusal:
            progress(f"{where} is taken as it is on this machine: {refusal}")
        return _name_of(reference, where, found)

    def _where(self, reference: Reference) -> Reference:
        return mirrored(reference, self._mirrors)

    def local_name(self, resolved: str) -> str:
        """Give the name by which the daemon knows what ``ensure`` gave."""
        return resolved if resolved.startswith("sha256:") else str(self._where(parse_reference(resolved)))

    async def inspect(self, resolved: str) -> Mapping[str, Any]:
        """Give what the daemon says of an image that ``ensure`` gave; raises DaemonRefused, DaemonGone."""
        found: Mapping[str, Any] = await self._api.call("GET", f"/images/{quote(self.local_name(resolved))}/json")
        return found

    async def _inspect(self, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = await self._api.call("GET", f"/images/{quote(name)}/json")
        except DaemonRefused as fault:
            if fault.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found

    async def _pull_once(self, where: Reference, progress: Progress) -> str:
        """Pull, or wait for the pull of another instance that has begun; gives why it failed, empty when it did not."""
        name = str(where)
        if name not in self._pulls:
            pull = _Pull(where)
            pull.work = self._tasks.start(f"pull {name}", self._pull(pull))
            self._pulls[name] = pull
            pull.work.add_done_callback(lambda _work: self._pulls.pop(name, None))
        return await self._pulls[name].wait(progress)

    async def _pull(self, pull: "_Pull") -> str:
        where = pull.where
        try:
            await self._read_pull(pull)
        except DaemonRefused as fault:
            return _explain(where, str(fault))
        except (DaemonGone, UnusableCredentials) as fault:
            return f"The image {where} could not be pulled: {fault}"
        return ""

    async def _read_pull(self, pull: "_Pull") -> None:
        query = {"fromImage": pull.where.name, "tag": pull.where.version}
        headers = await asyncio.to_thread(self._authorization, pull.where.registry)
        amounts = Amounts()
        opening = self._api.stream("POST", "/images/create", query=query, headers=headers, seconds=_SILENT_SECONDS)
        async with opening as pieces:
            async for line in _lines(pieces):
                if fault := line.get("error"):
                    raise DaemonRefused(HTTPStatus.INTERNAL_SERVER_ERROR, str(fault))
                if told := amounts.take(line):
                    pull.tell(told)

    def _authorization(self, registry: str) -> dict[str, str]:
        found = find_credentials(registry, self._credentials)
        return {} if found is None else {"X-Registry-Auth": make_authorization(found, registry)}

    async def close(self) -> None:
        """End the pulls that nobody waits for any more."""
        await self._tasks.close()


class _Pull:
    """A pull that all who want the image wait for."""

    def __init__(self, where: Reference) -> None:
        self.where = where
        self.work: asyncio.Task[str]
        self._listeners: list[Progress] = []

    def tell(self, amounts: str) -> None:
        """Tell all who wait how far it is."""
        for progress in self._listeners:
            progress(f"pulling {self.where}: {amounts}")

    async def wait(self, progress: Progress) -> str:
        """Wait for its end; it is broken off when nobody waits any more."""
        self._listeners.append(progress)
        progress(f"pulling {self.where}")
        try:
            return await asyncio.shield(self.work)
        finally:
            self._listeners.remove(progress)
            if not self._listeners:
                self.work.cancel()


class Amounts:
    """How far a pull is, from the daemon's lines about each layer."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._told = -1

    def take(self, line: Mapping[str, Any]) -> str:
        """Take a line; gives words for people, empty when there is nothing new to tell."""
        detail = line.get("progressDetail") or {}
        if line.get("status") != "Downloading" or not detail.get("total"):
            return ""
        self._layers[str(line.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
        done = sum(current for current, _total in self._layers.values())
        total = sum(total for _current, total in self._layers.values())
        step = 100 * done // total // _STEP_PERCENT
        if step == self._told:
            return ""
        self._told = step
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"


def make_authorization(credentials: Credentials, registry: str) -> str:
    """Make the header that hands a registry's credentials to the daemon."""
    content = (
        {"identitytoken": credentials.token}
        if credentials.token
        else {"username": credentials.user, "password": credentials.password}
    )
    return base64.urlsafe_b64encode(orjson.dumps({**content, "serveraddress": registry})).decode()


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """Give the lines of JSON of a stream; raises DaemonGone when it falls silent."""
    rest = b""
    while True:
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                piece = await anext(pieces, None)
        except TimeoutError as fault:
            raise DaemonGone(f"nothing was heard of it for {_SILENT_SECONDS:g} seconds") from fault
        whole, _, rest = (rest + (piece or b"\n")).rpartition(b"\n")
        for line in whole.splitlines():
            if line.strip():
                yield orjson.loads(line)
        if piece is None:
            return


def _name_of(reference: Reference, where: Reference, found: Mapping[str, Any]) -> str:
    """Give the lasting name of an image that is there."""
    if reference.digest:
        return reference.pinned(reference.digest)
    names = (where.name, where.path, where.path.removeprefix("library/"))
    for entry in found.get("RepoDigests") or ():
        name, _, digest = str(entry).partition("@")
        if name == names[0] or (where.registry == HUB and name in names):
            return reference.pinned(digest)
    identity = str(found["Id"])
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"


def _explain(where: Reference, said: str) -> str:
    """Make a sentence of what a daemon said of a pull, and of what can be done."""
    low = said.lower()
    advice = ""
    if "unauthorized" in low or "no basic auth" in low or "authentication required" in low or "denied" in low:
        advice = f" Log in where Moorage runs, as its user: docker login {where.registry}"
    elif "not found" in low or "manifest unknown" in low:
        advice = " Look at the repository and the tag."
    elif "refused" in low or "no such host" in low or "timeout" in low or "http response to https" in low:
        advice = (
            f" Look whether the registry {where.registry} answers this machine; another one can stand in for it "
            "(MOORAGE_REGISTRY_MIRRORS), and one without TLS must be allowed: insecure-registries of "
            "/etc/docker/daemon.json, insecure=true in podman's /etc/containers/registries.conf."
        )
    return f"The image {where} could not be pulled: {said.rstrip('.')}.{advice}"
