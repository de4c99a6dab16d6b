"""What KMS refuses, in its codes and words."""

from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.kms import faults

_CODES: tuple[tuple[type[faults.KeyUnusable], str], ...] = (
    (faults.NoSuchKey, "NotFoundException"),
    (faults.NoSuchAlias, "NotFoundException"),
    (faults.KeyDisabled, "DisabledException"),
    (faults.KeyPendingDeletion, "KMSInvalidStateException"),
    (faults.KeyNotPendingDeletion, "KMSInvalidStateException"),
    (faults.KeyManagedByService, "UnsupportedOperationException"),
    (faults.AliasExists, "AlreadyExistsException"),
    (faults.TooMany, "LimitExceededException"),
    (faults.LibraryMissing, "UnsupportedOperationException"),
)


def as_service_error(fault: faults.KeyUnusable) -> ServiceError:
    """Make KMS's error of a refusal of the key ring."""
    if isinstance(fault, faults.InvalidCiphertext):  # KMS does not say what is wrong with it
        return ClientFault("InvalidCiphertextException", "")
    for kind, code in _CODES:
        if isinstance(fault, kind):
            return ClientFault(code, str(fault))
    return OurFault("KeyUnavailableException", str(fault))


def unsupported(what: str) -> ClientFault:
    """Make the refusal of what KMS has and Moorage has not; ``what`` names it."""
    return ClientFault("UnsupportedOperationException", f"Moorage's KMS does not have {what}.")


def validation(message: str) -> ClientFault:
    """Make the refusal of a member's value."""
    return ClientFault("ValidationException", message)


def invalid_marker() -> ClientFault:
    """Make the refusal of a marker that is of no list."""
    return ClientFault("InvalidMarkerException", "Could not deserialize marker")
