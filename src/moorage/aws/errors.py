"""Errors that a client sees: AWS's code, HTTP status and text.

Whose fault it is stands in the type, because metrics and retries follow from that one bit: ``ClientFault`` is the
caller's, ``ModelFault`` the customer's container's, ``OurFault`` Moorage's. The protocol rooms (``json11``,
``rest_json``, the S3 neighbour) turn them into bytes.
"""

from collections.abc import Mapping


class ServiceError(Exception):
    """An answer that is not a success."""

    def __init__(
        self, code: str, message: str, *, status: int = 400, members: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members: Mapping[str, object] = members or {}
        """Further members of the modelled error shape, such as OriginalStatusCode."""


class ClientFault(ServiceError):
    """The caller must change something."""


class ModelFault(ServiceError):
    """The customer's container did not answer as it should."""


class OurFault(ServiceError):
    """Moorage failed; the same request may work later."""

    def __init__(self, code: str, message: str, *, status: int = 500) -> None:
        super().__init__(code, message, status=status)


def validation_exception(message: str) -> ClientFault:
    """Make the error of the control plane for nearly everything (control-plane.md section 1.3)."""
    return ClientFault("ValidationException", message)


def validation_error(message: str, error_code: str | None = None) -> ClientFault:
    """Make the runtime's error for a caller's mistake; note the name (data-plane.md section 1.6)."""
    members = {"ErrorCode": error_code} if error_code else {}
    return ClientFault("ValidationError", message, members=members)
