"""Signature Version 4: reads, verifies and makes signatures of requests. Pure; time is an argument.

The signature covers a canonical form of the request. AWS's own rule for it is: path and query decoded and encoded
again, the path twice except for S3, which also leaves dots and double slashes alone. Clients sign what they send,
which is the same unless they encode more or less than the rule (peers.md section 7). So a signature is compared with
the canonical form of the bytes as they came, and only if that fails with that of the bytes decoded and encoded again.
Both name the same resource, so accepting either gives nothing away.

The derived key depends only on the secret, day, region and service: the last thousand are kept.
"""

import calendar
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote, unquote, unquote_to_bytes

from moorage.aws.credentials import Credential

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
TERMINATOR = "aws4_request"
LONGEST_EXPIRY_SECONDS = 604_800
"""A presigned URL lives at most a week."""

_AUTHORIZATION = re.compile(
    ALGORITHM + r"[ \t]+Credential=([^,\s]+),[ \t]*SignedHeaders=([^,\s]+),[ \t]*Signature=([^,\s]+)"
)
_HEADER_SCOPE = re.compile(r"Credential=[^,\s]*?/[0-9]*/[^/,\s]*/([^/,\s]+)/aws4_request")
_QUERY_SCOPE = re.compile(r"(?:^|&)X-Amz-Credential=([^&]*)")
_AMZ_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+/?")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9_.~&=-]*")
_SPACES = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The parts of a request that a signature covers, as they were on the wire."""

    method: str
    path: str
    """Still percent-encoded, without the query."""
    query: str
    """Still percent-encoded, without ``?``."""
    headers: Sequence[tuple[str, str]]
    """Names in lower case, values as received (latin-1), in order."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says about its own signature."""

    access_key_id: str
    date: str
    """Day of the credential scope, ``YYYYMMDD``."""
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: float
    """When it was signed, in seconds since the epoch."""
    expires_seconds: int | None
    """How long a presigned URL lives; None for a signature in a header."""
    presigned: bool
    payload_hash: str | None
    """Value of ``x-amz-content-sha256``: a hash, ``UNSIGNED-PAYLOAD``, ``STREAMING-...``; None when absent."""
    amz_date: str
    """When it was signed, as ``YYYYMMDDTHHMMSSZ``."""
    session_token: str | None = None
    """``X-Amz-Security-Token`` of temporary credentials."""

    @property
    def scope(self) -> str:
        """The credential scope: ``20260101/us-east-1/sagemaker/aws4_request``."""
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


class MalformedSignature(ValueError):
    """A signature that cannot be read; ``message`` is AWS's text."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def read_signature(request: HttpRequest) -> Signature | None:
    """Read the signature of a header or of a presigned URL; None when the request is not signed at all.

    Raises MalformedSignature.
    """
    if (authorization := header_value(request, "authorization")) is not None:
        return _read_header(authorization, request)
    if "X-Amz-" in request.query and "X-Amz-Algorithm=" in request.query:
        return _read_query(request)
    return None


def named_service(authorization: str | None, query: str) -> str | None:
    """Read the service of a credential scope, before anything is verified; None when there is none to be read."""
    if authorization is not None:
        found = _HEADER_SCOPE.search(authorization)
        return found[1] if found else None
    if "X-Amz-Credential=" in query and (given := _QUERY_SCOPE.search(query)):
        parts = unquote(given[1]).split("/")
        return parts[-2] if len(parts) >= 5 else None
    return None


def verify(signature: Signature, request: HttpRequest, payload_sha256: str, secret_access_key: str) -> bool:
    """Say whether the signature is that of this request and secret.

    ``payload_sha256`` is the hash of the body in lower-case hexadecimal, or for S3 what the request declares
    (``Signature.payload_hash``) when the body is checked while it streams.
    """
    key = signing_key(secret_access_key, signature.date, signature.region, signature.service)
    given = signature.signature.encode()
    for canonical in _canonical_forms(request, signature, payload_sha256):
        text = _string_to_sign(signature.amz_date, signature.scope, canonical)
        expected = hmac.digest(key, text, "sha256").hex().encode()
        if hmac.compare_digest(expected, given):
            return True
    return False


def unsigned_headers(signature: Signature, request: HttpRequest) -> list[str]:
    """Give the headers that must be signed and are not: ``host``, and each ``x-amz-*`` that is present."""
    signed = signature.signed_headers
    missing = [] if "host" in signed else ["host"]
    return missing + [name for name, _ in request.headers if name.startswith("x-amz-") and name not in signed]


def sign(  # noqa: PLR0913 - a signature covers this much
    request: HttpRequest,
    payload_sha256: str,
    credential: Credential,
    *,
    region: str,
    service: str,
    timestamp: float,
) -> list[tuple[str, str]]:
    """Give the headers to add: ``x-amz-date`` and ``authorization``. All headers that the request has are signed."""
    amz_date = format_amz_date(timestamp)
    dated = HttpRequest(request.method, request.path, request.query, [*request.headers, ("x-amz-date", amz_date)])
    unsigned = Signature(
        access_key_id=credential.access_key_id,
        date=amz_date[:8],
        region=region,
        service=service,
        signed_headers=tuple(sorted({name for name, _ in dated.headers})),
        signature="",
        timestamp=timestamp,
        expires_seconds=None,
        presigned=False,
        payload_hash=None,
        amz_date=amz_date,
    )
    canonical = next(_canonical_forms(dated, unsigned, payload_sha256))
    key = signing_key(credential.secret_access_key, unsigned.date, region, service)
    text = _string_to_sign(amz_date, unsigned.scope, canonical)
    made = hmac.digest(key, text, "sha256").hex()
    authorization = (
        f"{ALGORITHM} Credential={credential.access_key_id}/{unsigned.scope}, "
        f"SignedHeaders={';'.join(unsigned.signed_headers)}, Signature={made}"
    )
    return [("x-amz-date", amz_date), ("authorization", authorization)]


@lru_cache(maxsize=1024)
def signing_key(secret_access_key: str, date: str, region: str, service: str) -> bytes:
    """Derive the key that signs one day's requests to one service of one region."""
    key = ("AWS4" + secret_access_key).encode()
    for part in (date, region, service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def format_amz_date(timestamp: float) -> str:
    """Give a time as ``YYYYMMDDTHHMMSSZ``."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y%m%dT%H%M%SZ")


def header_value(request: HttpRequest, wanted: str) -> str | None:
    """Give the first value of a header, or None."""
    for name, value in request.headers:
        if name == wanted:
            return value
    return None


# Reading


def _read_header(authorization: str, request: HttpRequest) -> Signature:
    found = _AUTHORIZATION.fullmatch(authorization.strip())
    amz_date = _date_of(request)
    if found is None or amz_date is None:
        raise MalformedSignature(_what_is_missing(authorization, has_date=amz_date is not None))
    credential, signed_headers, signature = found.groups()
    access_key_id, date, region, service = _read_credential(credential)
    return Signature(
        access_key_id=access_key_id,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(signed_headers.lower().split(";")),
        signature=signature,
        timestamp=timestamp_of(amz_date),
        expires_seconds=None,
        presigned=False,
        payload_hash=header_value(request, "x-amz-content-sha256"),
        amz_date=_matching(amz_date, date),
        session_token=header_value(request, "x-amz-security-token"),
    )


def _read_query(request: HttpRequest) -> Signature:
    values = {}
    for pair in request.query.split("&"):
        name, _, value = pair.partition("=")
        if name.startswith("X-Amz-"):
            values[name] = unquote(value)
    for name in ("Credential", "Signature", "SignedHeaders", "Date"):
        if not values.get("X-Amz-" + name):
            raise MalformedSignature(
                f"AWS query-string parameters must include 'X-Amz-{name}'. Re-examine the query-string parameters."
            )
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise MalformedSignature(f"Unsupported AWS 'algorithm': '{values['X-Amz-Algorithm']}'.")
    amz_date = values["X-Amz-Date"]
    access_key_id, date, region, service = _read_credential(values["X-Amz-Credential"])
    declared = header_value(request, "x-amz-content-sha256") or values.get("X-Amz-Content-Sha256")
    return Signature(
        access_key_id=access_key_id,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(values["X-Amz-SignedHeaders"].lower().split(";")),
        signature=values["X-Amz-Signature"],
        timestamp=timestamp_of(amz_date),
        expires_seconds=_read_expiry(values.get("X-Amz-Expires")),
        presigned=True,
        payload_hash=declared or (UNSIGNED_PAYLOAD if service == "s3" else None),
        amz_date=_matching(amz_date, date),
        session_token=values.get("X-Amz-Security-Token") or header_value(request, "x-amz-security-token"),
    )


def _read_expiry(text: str | None) -> int:
    if text is None:
        raise MalformedSignature(
            "AWS query-string parameters must include 'X-Amz-Expires'. Re-examine the query-string parameters."
        )
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise MalformedSignature("X-Amz-Expires should be a number")
    if int(text) < 0:
        raise MalformedSignature("X-Amz-Expires must be non-negative")
    if int(text) > LONGEST_EXPIRY_SECONDS:
        raise MalformedSignature("X-Amz-Expires must be less than a week (in seconds) that is 604800")
    return int(text)


@lru_cache(maxsize=1024)
def _read_credential(credential: str) -> tuple[str, str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5:
        raise MalformedSignature(
            "Credential must have exactly 5 slash-delimited elements, "
            f"e.g. keyid/date/region/service/term, got '{credential}'"
        )
    access_key_id, date, region, service, terminator = parts
    if terminator != TERMINATOR:
        raise MalformedSignature(
            f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'."
        )
    if not access_key_id or not region or not service:
        raise MalformedSignature(f"Credential has an empty element: '{credential}'")
    return access_key_id, date, region, service


def _what_is_missing(authorization: str, *, has_date: bool) -> str:
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm != ALGORITHM and "Credential=" in rest:
        return f"Unsupported AWS 'algorithm': '{algorithm}'."
    faults = [
        f"Authorization header requires '{name}' parameter."
        for name in ("Credential", "Signature", "SignedHeaders")
        if not re.search(rf"(?:^|[\s,]){name}=[^,\s]", rest)
    ]
    if not has_date:
        faults.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if not faults:
        faults.append("Authorization header cannot be read.")
    # The signature itself stays out of the text: it may land in somebody's log.
    shown = re.sub(r"(Signature=)[^,\s]*", r"\1...", authorization)
    return " ".join(faults) + f" Authorization={shown}"


def _date_of(request: HttpRequest) -> str | None:
    if (amz_date := header_value(request, "x-amz-date")) is not None:
        return amz_date
    if (http_date := header_value(request, "date")) is None:
        return None
    if _AMZ_DATE.fullmatch(http_date):
        return http_date
    try:
        return format_amz_date(parsedate_to_datetime(http_date).timestamp())
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def timestamp_of(amz_date: str) -> float:
    """Read ``YYYYMMDDTHHMMSSZ`` as seconds since the epoch; raises MalformedSignature."""
    if not _AMZ_DATE.fullmatch(amz_date):
        raise MalformedSignature(
            f"Date must be in ISO-8601 'basic format'. Got '{amz_date}'. See http://en.wikipedia.org/wiki/ISO_8601"
        )
    fields = (amz_date[0:4], amz_date[4:6], amz_date[6:8], amz_date[9:11], amz_date[11:13], amz_date[13:15])
    try:
        moment = datetime(*map(int, fields))  # type: ignore[arg-type]  # noqa: DTZ001 - six numbers, UTC
    except ValueError:
        raise MalformedSignature(f"Date is not a valid date. Got '{amz_date}'.") from None
    return float(calendar.timegm(moment.timetuple()))


def _matching(amz_date: str, scope_date: str) -> str:
    if amz_date[:8] != scope_date:
        raise MalformedSignature(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{scope_date}' != '{amz_date[:8]}', from '{amz_date}'."
        )
    return amz_date


# The canonical form


def _canonical_forms(request: HttpRequest, signature: Signature, payload_sha256: str) -> Iterator[bytes]:
    headers = _canonical_headers(request, signature.signed_headers)
    if headers is None:
        return
    tail = f"{headers}\n{';'.join(signature.signed_headers)}\n{payload_sha256}"
    query = _without_signature(request.query) if signature.presigned else request.query
    path = request.path or "/"
    is_plain = _PLAIN_PATH.fullmatch(path) is not None
    if signature.service != "s3" and not is_plain:
        path = _without_dots(path)
    as_sent = f"{request.method}\n{_path_form(path, signature, is_plain)}\n{_sorted(query)}\n{tail}"
    yield from _encoded(as_sent)
    if is_plain and _PLAIN_QUERY.fullmatch(query):
        return
    path = "/".join([_encoded_again(segment) for segment in path.split("/")])
    again = f"{request.method}\n{_path_form(path, signature, is_plain)}\n{_sorted(_query_again(query))}\n{tail}"
    if again != as_sent:
        yield from _encoded(again)


def _path_form(path: str, signature: Signature, is_plain: bool) -> str:  # noqa: FBT001 - an inner step
    return path if is_plain or signature.service == "s3" else quote(path, safe="/~")


def _string_to_sign(amz_date: str, scope: str, canonical: bytes) -> bytes:
    return f"{ALGORITHM}\n{amz_date}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}".encode()


def _encoded(canonical: str) -> Iterator[bytes]:
    """Give the bytes that may have been signed.

    The text has each byte of the wire as one character. botocore signs the UTF-8 of such text but sends it as
    latin-1; everybody else signs the bytes that they send.
    """
    yield canonical.encode()
    if not canonical.isascii():
        yield canonical.encode("latin-1", "replace")


def _canonical_headers(request: HttpRequest, signed_headers: tuple[str, ...]) -> str | None:
    values: dict[str, str] = {}
    for name, value in request.headers:
        if name in signed_headers:
            value = _trimmed(value)  # noqa: PLW2901
            values[name] = f"{values[name]},{value}" if name in values else value
    if len(values) != len(signed_headers):
        return None  # a header that was signed is not there, or is listed twice
    return "".join([f"{name}:{values[name]}\n" for name in signed_headers])


def _trimmed(value: str) -> str:
    value = value.strip(" \t")
    return _SPACES.sub(" ", value) if "  " in value or "\t" in value else value


def _without_dots(path: str) -> str:
    """Remove ``.``, ``..`` and empty segments, as all services but S3 do."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in {"", "."}:
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if path.endswith("/") and kept else "")


def _encoded_again(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="~")


def _sorted(query: str) -> str:
    if not query:
        return ""
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join([f"{name}={value}" for name, _, value in sorted(pairs)])


def _query_again(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return "&".join([f"{_encoded_again(name)}={_encoded_again(value)}" for name, _, value in pairs])


def _without_signature(query: str) -> str:
    return "&".join([pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature=")])
