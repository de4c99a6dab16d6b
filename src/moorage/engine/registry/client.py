"""Asks registries: manifests and blobs, by whoever Docker's configuration says that this user is. Blocks.

Everything is checked against its digest. Passwords and tokens go to the registry's own host and to the place that it
names for tokens; a redirection to another host is followed without them. Plain HTTP is spoken to this machine itself
and to registries that the settings name.
"""

import base64
import hashlib
import ipaddress
import json
import logging
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, TypeVar, cast

from moorage.engine.credentials import Credentials, UnusableCredentials, find_credentials
from moorage.engine.interrupts import Interrupt
from moorage.engine.references import HUB, Reference
from moorage.engine.registry.manifests import INDEX_KINDS, MANIFEST_KINDS, Blob

T = TypeVar("T")

log = logging.getLogger(__name__)

HUB_HOST = "registry-1.docker.io"
"""Where the API of Docker Hub is."""

MOST_MANIFEST_BYTES = 4 * 2**20
"""What registries take (distribution-spec, "Pushing manifests")."""

_TIMEOUT_SECONDS = 30.0
"""Of silence."""

_PAUSES = (0.2, 1.0, 3.0)
"""Before each further try, in seconds."""

_PIECE_BYTES = 2**20
_PARTIAL = 206
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


class RegistryFault(Exception):
    """A registry does not give what it was asked for; the text is for people."""


class NotThere(RegistryFault):
    """It has not got it."""


class CannotReach(RegistryFault):
    """It does not answer, or only that it cannot just now."""


class _Damaged(Exception):
    """What came is not what was announced."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index."""

    content: bytes
    kind: str
    """Media type."""

    @property
    def digest(self) -> str:
        """Give ``sha256:...``."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests for several kinds of machines."""
        return self.kind in INDEX_KINDS or (self.kind not in MANIFEST_KINDS and b'"manifests"' in self.content)


class RegistryClient:
    """Fetches from registries; threads may share it."""

    def __init__(self, credentials_file: Path, plain: Collection[str] = ()) -> None:
        """``plain``: registries (``host`` or ``host:port``) that are spoken to without TLS."""
        self._credentials_file = credentials_file
        self._plain = frozenset(plain)
        self._authorizations: dict[tuple[str, str], str] = {}
        """By registry and repository: what the registry wanted."""

    def manifest(self, reference: Reference, version: str, interrupt: Interrupt) -> Document:
        """Fetch the manifest or index of a tag or digest; raises RegistryFault."""
        accepted = ", ".join((*INDEX_KINDS, *MANIFEST_KINDS))

        def fetch() -> Document:
            with self._open(reference, f"manifests/{version}", {"Accept": accepted}) as answer:
                content = answer.read(MOST_MANIFEST_BYTES + 1)
                document = Document(content, answer.headers.get_content_type())
            if len(content) > MOST_MANIFEST_BYTES:
                raise RegistryFault(f"{reference.registry} gave a manifest of more than {MOST_MANIFEST_BYTES} bytes.")
            if version.startswith("sha256:") and document.digest != version:
                raise _Damaged(f"{reference.registry} gave something else than {version}")
            return document

        return self._repeatedly(reference, fetch, interrupt)

    def blob(
        self, reference: Reference, blob: Blob, file: IO[bytes], interrupt: Interrupt, told: Callable[[int], None]
    ) -> None:
        """Write a blob into an empty file; ``told`` hears of each piece's bytes. Raises RegistryFault.

        What breaks off is continued where it broke off; what has the wrong digest is fetched anew, once.
        """
        download = _Download(blob, file, interrupt, told)

        def fetch() -> None:
            wanted = {"Range": f"bytes={download.done}-"} if download.done else {}
            with self._open(reference, f"blobs/{blob.digest}", wanted) as answer:
                download.take(answer)
            if not download.is_right:
                download.begin_anew()
                raise _Damaged(f"{reference.registry} gave something else than {blob.digest}")

        self._repeatedly(reference, fetch, interrupt)

    def _repeatedly(self, reference: Reference, fetch: Callable[[], T], interrupt: Interrupt) -> T:
        """Try until it is there, while it may be; raises RegistryFault."""
        damaged = 0
        for pause in (*_PAUSES, None):
            interrupt.check()
            try:
                return fetch()
            except urllib.error.HTTPError as fault:
                with fault:
                    failure: RegistryFault = _explain(fault, reference)
                if fault.code not in _AGAIN:
                    raise failure from fault
            except _Damaged as fault:
                failure = RegistryFault(f"{fault}.")
                damaged += 1
                if damaged > 1:
                    raise failure from fault
            except (OSError, HTTPException) as fault:  # a URLError is an OSError
                reason = getattr(fault, "reason", fault)
                failure = CannotReach(f"{reference.registry} cannot be reached: {reason}.")
                if isinstance(reason, ssl.SSLCertVerificationError):
                    raise failure from fault
            if pause is None:
                raise failure
            log.info("%s; again in %s s", failure, pause)
            interrupt.pause(pause)
        raise AssertionError

    def _open(self, reference: Reference, path: str, headers: dict[str, str]) -> HTTPResponse:
        """Ask; when the registry wants to know who does, say it and ask again. Raises what urllib does."""
        url = f"{self._origin(reference.registry)}/v2/{reference.path}/{path}"
        place = (reference.registry, reference.path)
        try:
            return self._send(reference.registry, url, headers, self._authorizations.get(place))
        except urllib.error.HTTPError as fault:
            if fault.code != 401:
                raise
            challenges = fault.headers.get_all("WWW-Authenticate") or []
            fault.close()
        self._authorizations[place] = authorization = self._authorize(reference, challenges)
        return self._send(reference.registry, url, headers, authorization)

    def _origin(self, registry: str) -> str:
        host = HUB_HOST if registry == HUB else registry
        return f"{'http' if self._is_plain(registry) else 'https'}://{host}"

    def _is_plain(self, registry: str) -> bool:
        return registry in self._plain or _host(registry) in self._plain or is_loopback(_host(registry))

    def _send(self, registry: str, url: str, headers: dict[str, str], authorization: str | None) -> HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "moorage", **headers})  # noqa: S310 - built above
        if authorization is not None:
            request.add_header("Authorization", authorization)
        return self._open_request(registry, request)

    def _open_request(self, registry: str, request: urllib.request.Request) -> HTTPResponse:
        handlers: list[urllib.request.BaseHandler] = [_Redirections()]
        if is_loopback(_host(registry)):
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy's loopback is not this machine's
        opener = urllib.request.build_opener(*handlers)
        return cast("HTTPResponse", opener.open(request, timeout=_TIMEOUT_SECONDS))

    def _authorize(self, reference: Reference, challenges: list[str]) -> str:
        """Give the header that a challenge wants; raises RegistryFault."""
        try:
            credentials = find_credentials(reference.registry, self._credentials_file)
        except UnusableCredentials as fault:
            raise RegistryFault(str(fault)) from fault
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            parameters = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
            if scheme.lower() == "bearer" and "realm" in parameters:
                return f"Bearer {self._token(reference, parameters, credentials)}"
            if scheme.lower() == "basic" and credentials is not None and credentials.user:
                return _basic(credentials)
        raise RegistryFault(_log_in(reference))

    def _token(self, reference: Reference, parameters: dict[str, str], credentials: Credentials | None) -> str:
        """Fetch a token where the registry says that there are some (distribution's "Token Authentication")."""
        realm = parameters["realm"]
        if not realm.startswith("https://") and not (realm.startswith("http://") and self._is_plain_url(realm)):
            raise RegistryFault(f"{reference.registry} wants a password to be sent to {realm}, which is not safe.")
        wanted = {"scope": parameters.get("scope") or f"repository:{reference.path}:pull"}
        if "service" in parameters:
            wanted["service"] = parameters["service"]
        if credentials is not None and credentials.token:
            form = {**wanted, "grant_type": "refresh_token", "refresh_token": credentials.token, "client_id": "moorage"}
            request = urllib.request.Request(realm, urllib.parse.urlencode(form).encode())  # noqa: S310 - see above
        else:
            separator = "&" if "?" in realm else "?"
            request = urllib.request.Request(f"{realm}{separator}{urllib.parse.urlencode(wanted)}")  # noqa: S310
            if credentials is not None:
                request.add_header("Authorization", _basic(credentials))
        try:
            with self._open_request(urllib.parse.urlsplit(realm).netloc, request) as answer:
                found = json.loads(answer.read(MOST_MANIFEST_BYTES))
            return str(found.get("token") or found["access_token"])
        except urllib.error.HTTPError as fault:
            with fault:
                if fault.code in _AGAIN:
                    raise
                raise RegistryFault(_log_in(reference)) from fault
        except (ValueError, KeyError, AttributeError) as fault:
            raise RegistryFault(f"{realm} gave no token for {reference}.") from fault

    def _is_plain_url(self, url: str) -> bool:
        return self._is_plain(urllib.parse.urlsplit(url).netloc)


class _Download:
    """A blob on its way into a file."""

    def __init__(self, blob: Blob, file: IO[bytes], interrupt: Interrupt, told: Callable[[int], None]) -> None:
        self.done = 0
        """Bytes that are in the file."""
        self._blob = blob
        self._file = file
        self._interrupt = interrupt
        self._told = told
        self._hashed = hashlib.sha256()

    def begin_anew(self) -> None:
        """Forget what is there."""
        self.done = 0
        self._hashed = hashlib.sha256()
        self._file.seek(0)
        self._file.truncate()

    def take(self, answer: HTTPResponse) -> None:
        """Take the rest, or all of it from a registry that gives no rests; raises OSError when it breaks off."""
        if self.done and answer.status != _PARTIAL:
            self.begin_anew()
        while self.done <= self._blob.size and (piece := answer.read(_PIECE_BYTES)):
            self._interrupt.check()
            self.done += len(piece)
            self._hashed.update(piece)
            self._file.write(piece)
            self._told(len(piece))
        if self.done < self._blob.size:
            raise OSError(f"the connection broke off after {self.done} of {self._blob.size} bytes")

    @property
    def is_right(self) -> bool:
        """Whether it is what was asked for."""
        return self.done == self._blob.size and f"sha256:{self._hashed.hexdigest()}" == self._blob.digest


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections; to another host without the password, and never from TLS to plain HTTP."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """(urllib) Make the request that follows."""
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is None:
            return None
        if req.type == "https" and made.type != "https":
            raise urllib.error.URLError(f"it leads from https to {made.type}")
        if (req.type, req.host) != (made.type, made.host):
            made.remove_header("Authorization")
        return made


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _host(registry: str) -> str:
    return urllib.parse.urlsplit(f"//{registry}").hostname or registry


def _basic(credentials: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{credentials.user}:{credentials.password}".encode()).decode()


def _log_in(reference: Reference) -> str:
    return (
        f"{reference.registry} does not let everybody have {reference.path}: log in with docker login "
        f"{reference.registry}, or write its password into ~/.docker/config.json."
    )


def _explain(fault: urllib.error.HTTPError, reference: Reference) -> RegistryFault:
    if fault.code == 404:
        return NotThere(f"{reference.registry} has no {reference.path}:{reference.version}.")
    if fault.code in {401, 403}:
        return RegistryFault(_log_in(reference))
    if fault.code == 429:
        return CannotReach(f"{reference.registry} says that too much was asked of it (429): log in, or wait.")
    kind = CannotReach if fault.code in _AGAIN else RegistryFault
    return kind(f"{reference.registry} answered {fault.code} {fault.reason} to {reference}.")
