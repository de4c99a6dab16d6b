"""What a client is told of a fault that a front has told (``fronts``). Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from moorage.aws.errors import OurFault, ServiceError
from moorage.gateway import model_errors
from moorage.gateway.fronts import Fault, FaultKind
from moorage.routing.snapshot import Endpoint


def error_of(endpoint: Endpoint, container: str, fault: Fault) -> ServiceError:
    """Make the error of a fault; ``container`` is to blame."""
    make = _ERRORS.get(fault.kind, _failed)
    return make(endpoint, container, fault.details)


def _failed(_endpoint: Endpoint, _container: str, _details: Mapping[str, Any]) -> ServiceError:
    return OurFault("InternalFailure", "Moorage failed; its log says why.")


def _no_memory(_endpoint: Endpoint, _container: str, _details: Mapping[str, Any]) -> ServiceError:
    return OurFault("ServiceUnavailable", "Moorage has no memory left for bodies. Try again.", status=503)


_ERRORS: Mapping[str, Callable[[Endpoint, str, Mapping[str, Any]], ServiceError]] = {
    FaultKind.REFUSED: lambda endpoint, container, _: model_errors.no_response(endpoint, container),
    FaultKind.NO_ANSWER: lambda endpoint, container, _: model_errors.no_response(endpoint, container),
    FaultKind.CUT: lambda endpoint, container, _: model_errors.not_loaded(endpoint, container),
    FaultKind.TIMED_OUT: lambda endpoint, container, _: model_errors.timed_out(endpoint, container),
    FaultKind.TOO_LARGE: model_errors.too_large_between,
    FaultKind.NO_MEMORY: _no_memory,
}
