"""The services' models as data: operations and the shapes of their inputs, outputs and errors.

``models/*.json`` are made from botocore's newest models by ``scripts/models``; nothing about a shape is typed in here.
Reading a file takes well under a millisecond; a shape becomes an object when it is first looked at.
"""

from collections.abc import Mapping
from functools import cache, cached_property
from importlib import resources
from typing import Any

import orjson

Raw = Mapping[str, Any]


class Shape:
    """What a value may be. ``min`` and ``max`` are lengths for texts, blobs, lists and maps."""

    def __init__(self, name: str, raw: Raw, service: "Service") -> None:
        self.name = name
        self.min: float | None = raw.get("min")
        self.max: float | None = raw.get("max")
        self._raw = raw
        self._service = service

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


class StringShape(Shape):
    """A text."""

    def __init__(self, name: str, raw: Raw, service: "Service") -> None:
        super().__init__(name, raw, service)
        self.pattern: str | None = raw.get("pattern")
        """A regular expression of Java that the whole text must match."""
        self.enum: tuple[str, ...] = tuple(raw.get("enum", ()))
        """The allowed texts in order of declaration; empty when all are."""


class NumberShape(Shape):
    """``integer`` (32 bits), ``long`` (64 bits), ``float`` or ``double``."""

    def __init__(self, name: str, raw: Raw, service: "Service") -> None:
        super().__init__(name, raw, service)
        self.kind: str = raw["type"]
        self.whole = self.kind in {"integer", "long"}


class BooleanShape(Shape):
    """True or false."""


class TimestampShape(Shape):
    """A time: seconds since the epoch, as float."""


class BlobShape(Shape):
    """Bytes."""


class ListShape(Shape):
    """A list of values of one shape."""

    @cached_property
    def member(self) -> Shape:
        """Shape of the elements."""
        return self._service.shape(self._raw["member"])


class MapShape(Shape):
    """Values of one shape by keys of one shape."""

    @cached_property
    def key(self) -> Shape:
        """Shape of the keys."""
        return self._service.shape(self._raw["key"])

    @cached_property
    def value(self) -> Shape:
        """Shape of the values."""
        return self._service.shape(self._raw["value"])


class Member:
    """A member of a structure."""

    def __init__(self, name: str, raw: Raw, service: "Service", *, required: bool) -> None:
        self.name = name
        self.required = required
        self.location: str | None = raw.get("location")
        """``header``, ``uri`` or None: the body."""
        self.wire_name: str = raw.get("locationName", name)
        self._raw = raw
        self._service = service

    @cached_property
    def shape(self) -> Shape:
        """Shape of the value."""
        return self._service.shape(self._raw["shape"])

    def __repr__(self) -> str:
        return f"<Member: {self.name}>"


class StructureShape(Shape):
    """Named members."""

    def __init__(self, name: str, raw: Raw, service: "Service") -> None:
        super().__init__(name, raw, service)
        self.required: frozenset[str] = frozenset(raw.get("required", ()))
        self.payload: str | None = raw.get("payload")
        """Name of the member that is the whole body (REST-JSON)."""
        self.is_event_stream: bool = raw.get("eventstream", False)

    @cached_property
    def members(self) -> Mapping[str, Member]:
        """The members in order of declaration."""
        return {
            name: Member(name, raw, self._service, required=name in self.required)
            for name, raw in self._raw["members"].items()
        }


class Operation:
    """One operation of a service."""

    def __init__(self, name: str, raw: Raw, service: "Service") -> None:
        self.name = name
        self.http_method: str = raw["method"]
        self.uri: str = raw["uri"]
        """Path with labels: ``/endpoints/{EndpointName}/invocations``."""
        self.status: int = raw["status"]
        """HTTP status of a success."""
        self.errors: tuple[str, ...] = tuple(raw["errors"])
        """Names of the modelled errors."""
        self._raw = raw
        self._service = service

    @cached_property
    def input(self) -> StructureShape | None:
        """Shape of the request; None when it has no members."""
        return self._structure("input")

    @cached_property
    def output(self) -> StructureShape | None:
        """Shape of the answer; None when its body is empty."""
        return self._structure("output")

    def _structure(self, side: str) -> StructureShape | None:
        if side not in self._raw:
            return None
        shape = self._service.shape(self._raw[side])
        assert isinstance(shape, StructureShape)  # noqa: S101 - the model file is ours
        return shape

    def __repr__(self) -> str:
        return f"<Operation: {self.name}>"


class Service:
    """One service: the operations that Moorage knows and the names of all."""

    def __init__(self, name: str, raw: Raw) -> None:
        self.name = name
        self.botocore_version: str = raw["botocore"]
        """Version of botocore whose model this is."""
        self.service_id: str = raw["metadata"]["serviceId"]
        self.full_name: str = raw["metadata"]["serviceFullName"]
        self.target_prefix: str = raw["metadata"].get("targetPrefix", "")
        """What precedes the operation in ``X-Amz-Target``."""
        self.operations: Mapping[str, Operation] = {
            operation: Operation(operation, about, self) for operation, about in raw["operations"].items()
        }
        self.all_operation_names: frozenset[str] = frozenset(raw["operation_names"])
        """Also those whose shapes are not in the model file."""
        self._raw_shapes: Raw = raw["shapes"]
        self._shapes: dict[str, Shape] = {}

    def shape(self, name: str) -> Shape:
        """Give a shape by its name; raises KeyError."""
        shape = self._shapes.get(name)
        if shape is None:
            raw = self._raw_shapes[name]
            shape = self._shapes[name] = _KINDS[raw["type"]](name, raw, self)
        return shape

    @property
    def shape_names(self) -> frozenset[str]:
        """Names of all shapes of the model file."""
        return frozenset(self._raw_shapes)

    def __repr__(self) -> str:
        return f"<Service: {self.name}, {len(self.operations)} operations>"


_KINDS: Mapping[str, type[Shape]] = {
    "structure": StructureShape,
    "list": ListShape,
    "map": MapShape,
    "string": StringShape,
    "integer": NumberShape,
    "long": NumberShape,
    "float": NumberShape,
    "double": NumberShape,
    "boolean": BooleanShape,
    "timestamp": TimestampShape,
    "blob": BlobShape,
}


@cache
def load_service(name: str) -> Service:
    """Read a service's model, by the name that botocore has for it."""
    file = resources.files("moorage.aws") / "models" / f"{name}.json"
    return Service(name, orjson.loads(file.read_bytes()))
