"""The routing of all endpoints at one version: immutable, whole, swapped in one assignment.

The control plane listens at ``run_dir/snapshots.sock`` (``base.link``). A gateway (or a neighbour, which needs only
the keys) calls and says

    {"op": "hello", "role": "gateway"}

and from then on is sent each new snapshot, whole, and answers when it routes by it, and later, when the last
request to an instance that the new snapshot no longer has is answered:

    {"op": "snapshot", "snapshot": {...}}      control plane
    {"op": "applied", "version": 7}            gateway
    {"op": "drained", "instance_ids": [...]}   gateway
    {"op": "unreachable", "instance_id": ...}  gateway: a connection was refused or broke
    {"op": "metrics", ...}                     gateway: what was counted (gateway/reports.py)
    {"op": "metrics_stored", "number": 7}      control plane

The control plane also writes each snapshot to ``data_dir/snapshot.json`` before it sends it, so that a gateway that
starts while the control plane is down goes on from there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from moorage.aws.credentials import Credential


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that takes invocations."""

    instance_id: str
    address: str
    """``unix:PATH``, ``dial:PATH`` or ``host:port`` (``engine.contract``)."""


class Strategy(StrEnum):
    """How an instance of a variant is chosen (data-plane.md section 2.2); the values are the API's."""

    RANDOM = "RANDOM"
    LEAST_OUTSTANDING_REQUESTS = "LEAST_OUTSTANDING_REQUESTS"
    PREFIX_AWARE = "PREFIX_AWARE"
    KV_AWARE = "KV_AWARE"


class Mode(StrEnum):
    """What an instance is made of, and so what stands at its address."""

    SINGLE = "Single"
    """One container, which answers itself."""
    SERIAL = "Serial"
    """A front, which takes an invocation through the containers in order."""
    DIRECT = "Direct"
    """A front, which gives it to the container that it names."""


@dataclass(frozen=True, slots=True)
class PrefixAware:
    """The configuration of PREFIX_AWARE."""

    length: int
    """Bytes of the body, or characters of the messages, that make the prefix."""
    concurrency_threshold: int
    """Invocations in flight on an instance from which on another one is asked."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What is recorded of an endpoint's invocations (data-plane.md section 5)."""

    percentage: float
    """From 0 to 100."""
    destination: str
    """``s3://bucket/prefix``."""
    inputs: bool
    outputs: bool
    csv_types: tuple[str, ...] = ()
    json_types: tuple[str, ...] = ()
    kms_key: str | None = None
    """Key that the records are encrypted with, as the configuration names it; None: they are not."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A share of an endpoint's traffic."""

    name: str
    weight: float
    """Any number from 0; the share is the weight by the sum of the weights."""
    container: str
    """Name of the (first) container, for the texts of ModelError."""
    instances: tuple[Instance, ...]
    """The ready ones only."""
    strategy: Strategy = Strategy.RANDOM
    prefix_aware: PrefixAware | None = None
    """Given with PREFIX_AWARE alone."""
    coming: bool = False
    """Whether fewer instances are ready than are wanted: who finds none may wait."""
    mode: Mode = Mode.SINGLE
    containers: tuple[str, ...] = ()
    """Names of the containers behind a front, in order."""
    multi_model: tuple[str, ...] = ()
    """Those of them that serve many models: whoever asks one of these names the model."""

    @property
    def has_front(self) -> bool:
        """Whether a front stands at the addresses of its instances (``gateway.fronts``)."""
        return self.mode is not Mode.SINGLE


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that can be invoked."""

    account: str
    region: str
    name: str
    arn: str
    variants: tuple[Variant, ...]
    shadows: tuple[Variant, ...] = ()
    """At most one; its weight by that of the production variant is the share of invocations that it gets a copy of."""
    capture: Capture | None = None
    """None: nothing is captured."""

    @property
    def instances(self) -> Iterator[Instance]:
        """All ready instances, those of shadow variants too."""
        for variant in (*self.variants, *self.shadows):
            yield from variant.instances


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a gateway knows."""

    version: int
    keys: Mapping[str, Credential] = field(default_factory=dict)
    """By access key id; with their policies."""
    endpoints: Mapping[tuple[str, str, str], Endpoint] = field(default_factory=dict)
    """By account, region and name (case-sensitive)."""
    token_secret: str = field(default="", repr=False)
    """What session tokens are made and checked with."""
    tags: Mapping[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict)
    """Tags of the endpoints that have any, because policies may ask for them."""

    def to_message(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "version": self.version,
            "token_secret": self.token_secret,
            "keys": [_key_message(key) for key in self.keys.values()],
            "endpoints": [_endpoint_message(endpoint) for endpoint in self.endpoints.values()],
            "tags": [[*key, dict(tags)] for key, tags in self.tags.items()],
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Snapshot":
        """Read the JSON form."""
        endpoints = [_endpoint(entry) for entry in message["endpoints"]]
        return cls(
            version=message["version"],
            keys={entry[0]: _key(entry) for entry in message["keys"]},
            endpoints={(e.account, e.region, e.name): e for e in endpoints},
            token_secret=message.get("token_secret", ""),
            tags={(account, region, name): tags for account, region, name, tags in message.get("tags", ())},
        )


def _key_message(key: Credential) -> list[Any]:
    return [key.access_key_id, key.secret_access_key, key.account_id, key.user_name, key.policies]


def _key(entry: Sequence[Any]) -> Credential:
    # A snapshot of an older version on the disk has no policies.
    policies = entry[4] if len(entry) > 4 else None
    access_key_id, secret_access_key, account, user_name = entry[:4]
    policies = None if policies is None else tuple(policies)
    return Credential(access_key_id, secret_access_key, account, user_name, policies)


def _endpoint_message(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "account": endpoint.account,
        "region": endpoint.region,
        "name": endpoint.name,
        "arn": endpoint.arn,
        "variants": [_variant_message(variant) for variant in endpoint.variants],
        "shadows": [_variant_message(variant) for variant in endpoint.shadows],
        "capture": None if endpoint.capture is None else asdict(endpoint.capture),
    }


def _variant_message(variant: Variant) -> dict[str, Any]:
    prefix = variant.prefix_aware
    return {
        "name": variant.name,
        "weight": variant.weight,
        "container": variant.container,
        "instances": [[instance.instance_id, instance.address] for instance in variant.instances],
        "strategy": variant.strategy,
        "prefix_aware": None if prefix is None else [prefix.length, prefix.concurrency_threshold],
        "coming": variant.coming,
        "mode": variant.mode,
        "containers": variant.containers,
        "multi_model": variant.multi_model,
    }


def _endpoint(message: Mapping[str, Any]) -> Endpoint:
    capture = message.get("capture")
    return Endpoint(
        account=message["account"],
        region=message["region"],
        name=message["name"],
        arn=message["arn"],
        variants=tuple(map(_variant, message["variants"])),
        shadows=tuple(map(_variant, message.get("shadows", ()))),
        capture=None if capture is None else _capture(capture),
    )


def _variant(message: Mapping[str, Any]) -> Variant:
    prefix = message.get("prefix_aware")
    return Variant(
        name=message["name"],
        weight=message["weight"],
        container=message["container"],
        instances=tuple(Instance(*instance) for instance in message["instances"]),
        strategy=Strategy(message.get("strategy", Strategy.RANDOM)),
        prefix_aware=None if prefix is None else PrefixAware(*prefix),
        coming=message.get("coming", False),
        mode=Mode(message.get("mode", Mode.SINGLE)),
        containers=tuple(message.get("containers", ())),
        multi_model=tuple(message.get("multi_model", ())),
    )


def _capture(message: Mapping[str, Any]) -> Capture:
    types = {name: tuple(message[name]) for name in ("csv_types", "json_types")}
    return Capture(**{**message, **types})
