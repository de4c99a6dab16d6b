"""What a client is told of a fault that a front has told (``fronts``). Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from moorage.aws.errors import ClientFault, OurFault, ServiceError, validation_error
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


def _not_ready(_endpoint: Endpoint, _container: str, _details: Mapping[str, Any]) -> ServiceError:
    message = "Model is not ready for inference. Wait and try your request again."
    return ClientFault("ModelNotReadyException", message, status=429)


def _no_model(_endpoint: Endpoint, _container: str, details: Mapping[str, Any]) -> ServiceError:
    """As AWS says it of a missing object (data-plane.md section 1.8)."""
    return validation_error(
        f"Failed to download model data({_place(details['uri'])}). Please ensure that there is an object located at "
        "the URL and that the role passed to CreateModel has permissions to download the model."
    )


def _bad_model(_endpoint: Endpoint, _container: str, details: Mapping[str, Any]) -> ServiceError:
    return validation_error(f"Failed to extract model data({_place(details['uri'])}). {details['reason']}")


def _not_loaded(endpoint: Endpoint, container: str, details: Mapping[str, Any]) -> ServiceError:
    return model_errors.from_status(endpoint, container, int(details["status"]), str(details["body"]))


def _place(uri: str) -> str:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return f"bucket: {bucket}, key: {key}"


_ERRORS: Mapping[str, Callable[[Endpoint, str, Mapping[str, Any]], ServiceError]] = {
    FaultKind.REFUSED: lambda endpoint, container, _: model_errors.no_response(endpoint, container),
    FaultKind.NO_ANSWER: lambda endpoint, container, _: model_errors.no_response(endpoint, container),
    FaultKind.CUT: lambda endpoint, container, _: model_errors.not_loaded(endpoint, container),
    FaultKind.TIMED_OUT: lambda endpoint, container, _: model_errors.timed_out(endpoint, container),
    FaultKind.TOO_LARGE: model_errors.too_large_between,
    FaultKind.NO_MEMORY: _no_memory,
    FaultKind.NOT_READY: _not_ready,
    FaultKind.NO_MODEL: _no_model,
    FaultKind.BAD_MODEL: _bad_model,
    FaultKind.NOT_LOADED: _not_loaded,
}
