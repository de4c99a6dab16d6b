"""Every setting of Moorage, its default and why. The only place that reads ``MOORAGE_*`` of the environment.

A limit's default is AWS's, so that what would break there breaks here first; whoever runs their own machine can
raise it (``docs/reference/settings.md``).
"""

import dataclasses
import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

DEFAULT_ACCOUNT = "000000000000"

MOST_GATEWAYS = 64
"""More gateways than a machine has cores share nothing but the memory they take."""

_PREFIX = "MOORAGE_"
_SECRETS = ("metrics_token",)

_PATHS = ("environments_dir", "access_log", "tls_cert", "tls_key", "kms_key_file")
"""Settings that are a path or None."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much, too long or too late."""

    api_body_bytes: int = 1_048_576
    """Largest body of a control-plane request."""

    invocation_body_bytes: int = 26_214_400
    """Largest request or response body of InvokeEndpoint (25 MB; data-plane.md section 1.5)."""

    invocations_per_instance: int = 512
    """In flight on one instance, from one gateway; what is above is refused with AWS's throttling error."""

    held_invocations: int = 1_000
    """Of one endpoint, in one gateway, that wait for an instance which is on its way."""

    hold_seconds: float = 30.0
    """For how long each of them waits."""

    buffered_bytes: int = 2**30
    """Bodies of requests and answers that one gateway has in memory; who would need more is refused."""

    invocation_timeout_seconds: float = 60.0
    """From the request forwarded to the complete response, or a stream's first byte (data-plane.md section 1.9)."""

    stream_timeout_seconds: float = 480.0
    """From the request forwarded to the last byte of a streamed response (data-plane.md section 3.3)."""

    sessions_per_endpoint: int = 10_000
    """Sticky sessions that an endpoint may have open; a further NEW_SESSION is refused."""

    session_seconds: float = 1200.0
    """Life of a sticky session whose container does not say when it expires (data-plane.md section 2.3)."""

    startup_timeout_seconds: float = 240.0
    """From the container's start to the first 200 of ``/ping`` (data-plane.md section 7.4)."""

    download_timeout_seconds: float = 3600.0
    """For the download and extraction of a model artefact (data-plane.md section 7.3)."""

    ping_interval_seconds: float = 5.0
    """Between two health checks of a ready instance (data-plane.md section 7.4)."""

    ping_timeout_seconds: float = 2.0
    """For one health check (data-plane.md section 7.4)."""

    stop_grace_seconds: float = 30.0
    """From SIGTERM to SIGKILL (data-plane.md section 7.6)."""

    artifact_bytes: int = 100 * 2**30
    """Largest sum of extracted bytes of one artefact: a bomb of zeros ends here."""

    artifact_files: int = 200_000
    """Largest number of members of one archive."""

    models_kept_seconds: float = 604_800.0
    """Age since its last use at which an extracted artefact that no instance uses is removed (7 days)."""

    disk_reserve_bytes: int = 2 * 2**30
    """Free room on the data folder's disk below which such artefacts are removed at once, the oldest first."""

    core_dump_bytes: int = 4 * 2**30
    """Largest core file; never larger than the instance's memory or its volume."""

    core_dumps_per_instance: int = 5
    """Core files of one instance that are put into its bucket; further ones are removed."""

    core_dumps_per_hour: int = 20
    """Core files of one variant's instances within an hour; further ones are removed."""

    events_kept: int = 10_000
    """Events of endpoints in the journal, which is the webhook's back-log too; older ones go."""

    events_kept_seconds: float = 2_592_000.0
    """Age at which an event leaves the journal (30 days)."""

    metrics_kept_seconds: float = 1_296_000.0
    """Age at which the metrics of a minute are deleted (15 days)."""

    access_log_bytes: int = 100 * 2**20
    """Size at which the access log is moved aside and begun anew."""

    access_log_files: int = 5
    """Full access logs that are kept beside the present one."""

    instance_log_bytes: int = 20 * 2**20
    """Size at which a file of an instance's log is full and another is begun."""

    instance_log_files: int = 5
    """Full files that are kept beside the present one, of each instance."""

    logs_kept_seconds: float = 2_592_000.0
    """Age at which a file of a log that nobody writes to is removed (30 days)."""

    logs_total_bytes: int = 10 * 2**30
    """All logs of instances together; when it is more, the oldest files are removed."""

    shadow_invocations: int = 64
    """Copies in flight to the shadow variant of one endpoint, in one gateway; what is above is not copied."""

    capture_file_seconds: float = 60.0
    """Age at which a file of captured data is closed and put into its bucket (data-plane.md section 5.5)."""

    capture_file_bytes: int = 5_000_000
    """Size from which it is closed earlier."""

    capture_file_records: int = 20_000
    """Number of records from which it is closed earlier."""

    capture_flush_seconds: float = 1.0
    """For how long a captured record may be in memory only: a gateway that is killed loses those."""

    capture_spool_bytes: int = 2**30
    """Captured data on disk that is not in its bucket yet; what does not fit is dropped and counted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One installation."""

    data_dir: Path
    """All durable state: database, objects, keys, environments, logs."""

    run_dir: Path
    """Unix sockets and pid files; short, because a socket's path has at most 107 bytes."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 8410
    """Port of everything; 0 lets the kernel choose."""

    gateways: int = 1
    """Gateway processes on the port; the kernel deals out the connections among them."""

    tls_cert: Path | None = None
    """Certificate of the public port, with its chain, in PEM form; None: the port speaks plain HTTP."""

    tls_key: Path | None = None
    """Its key."""

    region: str = "us-east-1"
    """Region that ``moorage env`` exports."""

    account: str = DEFAULT_ACCOUNT
    """Account of the first key."""

    engine: str = "auto"
    """``auto``, ``docker``, ``sandbox`` or ``process``: how instances are run."""

    capacity: str = "overcommit"
    """``overcommit``: instances share what the machine has; ``strict``: those wait for which there is no room."""

    node_vcpus: int | None = None
    """Processors of this machine that instances may have; None: as many as it has."""

    node_memory_mib: int | None = None
    """Memory of this machine that instances may have; None: all of it."""

    node_gpus: int | None = None
    """GPUs of this machine that instances may have; None: as many as it has."""

    environments_dir: Path | None = None
    """Where the environments of built-in images are kept; None is the user's cache folder."""

    gpu_libraries: str = "refuse"
    """``refuse``: no environment is built of wheels that bring libraries for GPUs; ``install``: it is."""

    registry_mirrors: Mapping[str, str] = field(default_factory=dict)
    """By the pattern of a container registry's host, such as ``*.dkr.ecr.*.amazonaws.com``: the one that is asked in
    its place; users keep the URIs that they have on AWS."""
    kms_key_file: Path | None = None
    """File with the key that all keys of the key ring are wrapped with; None: ``kms/master.key`` of the data folder."""

    plain_registries: str = ""
    """Container registries that are spoken to without TLS: ``host`` or ``host:port``, separated by commas. Those of
    this machine's loopback always are."""

    event_webhook: str = ""
    """URL that events of endpoints are posted to; empty: none."""

    access_log: Path | None = None
    """File that a line of JSON is written to for each invocation; None: none."""

    metrics_token: str = field(default="", repr=False)
    """Bearer token that reads ``GET /_moorage/metrics``; empty: whoever connects from this machine may."""

    quotas: Mapping[str, int] = field(default_factory=dict)
    """Most instances, by the names of AWS's quotas (control-plane.md section 12); what is not named has its default."""

    limits: Limits = field(default_factory=Limits)

    @property
    def environments(self) -> Path:
        """Folder of the environments of built-in images, shared by all installations of this user."""
        return self.environments_dir or cache_dir() / "environments"

    @property
    def images(self) -> Path:
        """Folder of the images that are unpacked, for when no container engine has them."""
        return self.data_dir / "images"

    def to_message(self) -> dict[str, Any]:
        """Give the JSON form, for the process that the command line starts.

        It becomes an argument, which everybody on this machine can see: what is secret stays in the environment.
        """
        return {
            **{name: value for name, value in dataclasses.asdict(self).items() if name not in _SECRETS},
            "data_dir": str(self.data_dir),
            "run_dir": str(self.run_dir),
            **{name: str(path) if (path := getattr(self, name)) else None for name in _PATHS},
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Settings":
        """Read the JSON form, and what is secret from the environment."""
        secrets = {name: os.environ.get(_PREFIX + name.upper(), "") for name in _SECRETS}
        paths = {
            "data_dir": Path(message["data_dir"]),
            "run_dir": Path(message["run_dir"]),
            **{name: Path(message[name]) if message[name] else None for name in _PATHS},
        }
        values: dict[str, Any] = {**message, **secrets, **paths, "limits": Limits(**message["limits"])}
        return cls(**values)


def cache_dir() -> Path:
    """Give the user's cache folder for Moorage."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "moorage"


def default_data_dir() -> Path:
    """Give the data folder of a user who named none."""
    if named := os.environ.get("MOORAGE_DATA_DIR"):
        return Path(named).absolute()
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "moorage"


def run_dir_of(data_dir: Path) -> Path:
    """Give the folder of sockets that belongs to a data folder: the same at each start, short, private."""
    base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - made with 0700 and checked for its owner
    name = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:12]
    return Path(base) / f"moorage-{os.getuid()}-{name}"


class UnusableSetting(ValueError):
    """A ``MOORAGE_*`` variable that does not exist or has a value of the wrong kind; its text is for people."""


_QUOTA = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+ for endpoint usage|Number of instances across active endpoints")


def _read_quotas(text: str) -> dict[str, int]:
    """Read the JSON object of quotas."""
    found = json.loads(text)
    if not isinstance(found, dict) or not all(_QUOTA.fullmatch(name) for name in found):
        raise ValueError(text)
    if not all(type(limit) is int and limit >= 0 for limit in found.values()):
        raise ValueError(text)
    return found


def _read_mirrors(text: str) -> dict[str, str]:
    """Read the JSON object of registries' hosts."""
    found = json.loads(text)
    if not isinstance(found, dict) or not all(type(mirror) is str and mirror for mirror in found.values()):
        raise ValueError(text)
    return found


def _read_whole_number(text: str) -> int:
    if (value := int(text)) < 0:
        raise ValueError(text)
    return value


def _read_number(text: str) -> float:
    value = float(text)
    if not (0 <= value < math.inf):
        raise ValueError(text)
    return value


def _read_port(text: str) -> int:
    if (value := int(text)) not in range(65536):
        raise ValueError(text)
    return value


def _read_gateways(text: str) -> int:
    if (value := int(text)) not in range(1, MOST_GATEWAYS + 1):
        raise ValueError(text)
    return value


def _read_path(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text).absolute()


def _read_account(text: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", text):
        raise ValueError(text)
    return text


def _read_region(text: str) -> str:
    """Read what can stand in an ARN and in the scope of a signature."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text):
        raise ValueError(text)
    return text


def _read_capacity(text: str) -> str:
    if text not in {"overcommit", "strict"}:
        raise ValueError(text)
    return text


def _read_gpu_libraries(text: str) -> str:
    if text not in {"refuse", "install"}:
        raise ValueError(text)
    return text


def _read_amount(text: str) -> int | None:
    return None if text == "auto" else _read_whole_number(text)


def _read_file(text: str) -> Path | None:
    return Path(text).absolute() if text else None


def _read_token(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]*", text):
        raise ValueError(text)
    return text


_READERS: Mapping[str, Callable[[str], Any]] = {
    "quotas": _read_quotas,
    "registry_mirrors": _read_mirrors,
    "port": _read_port,
    "gateways": _read_gateways,
    "account": _read_account,
    "region": _read_region,
    "access_log": _read_file,
    "kms_key_file": _read_file,
    "metrics_token": _read_token,
    "capacity": _read_capacity,
    "gpu_libraries": _read_gpu_libraries,
    "node_vcpus": _read_amount,
    "node_memory_mib": _read_amount,
    "node_gpus": _read_amount,
}
_READERS_OF_KINDS: Mapping[type, Callable[[str], Any]] = {
    int: _read_whole_number,
    float: _read_number,
    Path: _read_path,
}
_WANTED: Mapping[Callable[[str], Any], str] = {
    _read_mirrors: (
        "a JSON object of patterns of hosts and the registries in their place, such as "
        '{"*.dkr.ecr.*.amazonaws.com": "localhost:5000"}'
    ),
    _read_whole_number: "a whole number, not below 0",
    _read_number: "a number, not below 0",
    _read_port: "a whole number from 0 to 65535",
    _read_path: "a path",
    _read_capacity: "overcommit or strict",
    _read_gpu_libraries: "refuse or install",
    _read_amount: "auto, or a whole number, not below 0",
    _read_gateways: f"a whole number from 1 to {MOST_GATEWAYS}",
    _read_account: "12 digits",
    _read_region: "small letters, digits and single hyphens, such as us-east-1",
    _read_token: "printable ASCII characters without blanks",
    _read_quotas: (
        'a JSON object of quotas and whole numbers, such as {"ml.m5.large for endpoint usage": 4, '
        '"Number of instances across active endpoints": 20}'
    ),
}

Values = TypeVar("Values", Limits, Settings)


def from_environment(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Lay ``MOORAGE_*`` over the settings: ``MOORAGE_PING_INTERVAL_SECONDS=1`` sets that limit.

    Raises UnusableSetting for a value of the wrong kind, and for a variable that is no setting: what is misspelt would
    otherwise do nothing, and nobody would know.
    """
    if strangers := sorted(name for name in environment if name.startswith(_PREFIX) and name not in _names()):
        raise UnusableSetting(_no_such_setting(strangers[0]))
    limits: Limits = _overlay(settings.limits, environment)
    laid: Settings = _overlay(settings, environment)
    _check_webhook(laid.event_webhook)
    return dataclasses.replace(laid, limits=limits)


def check_option(name: str, text: str) -> None:
    """Raise UnusableSetting when a setting that was given as an option has no usable value."""
    read = _READERS[name]
    try:
        read(text)
    except ValueError as fault:
        raise UnusableSetting(f"{text!r} is not usable: it must be {_WANTED[read]}.") from fault


def _names() -> list[str]:
    """Give the names of all variables."""
    fields = (*dataclasses.fields(Settings), *dataclasses.fields(Limits))
    return [_PREFIX + entry.name.upper() for entry in fields if entry.name not in {"limits", "run_dir"}]


def _no_such_setting(name: str) -> str:
    near = difflib.get_close_matches(name, _names(), n=1, cutoff=0.0)
    return f"There is no setting {name}. The nearest is {near[0]}; all of them: docs/reference/settings.md"


def _check_webhook(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = not url or (parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc)
        usable = usable and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        message = f"MOORAGE_EVENT_WEBHOOK={url!r} is not usable: it must be an http or https URL without a password."
        raise UnusableSetting(message)


def _overlay(values: Values, environment: Mapping[str, str]) -> Values:
    given: dict[str, Any] = {}
    for entry in dataclasses.fields(values):
        text = environment.get(_PREFIX + entry.name.upper())
        if text is None or entry.name in {"limits", "data_dir", "run_dir"}:
            continue
        kind = Path if "Path" in str(entry.type) else type(getattr(values, entry.name))
        read = _READERS.get(entry.name) or _READERS_OF_KINDS.get(kind, kind)
        try:
            given[entry.name] = read(text)
        except ValueError as fault:
            wanted = _WANTED.get(read, "another value")
            message = f"MOORAGE_{entry.name.upper()}={text!r} is not usable: it must be {wanted}."
            raise UnusableSetting(message) from fault
    return dataclasses.replace(values, **given)
