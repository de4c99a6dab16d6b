"""What S3 refuses by its own rules, in its codes, statuses and words. The store's refusals: ``objects.faults``."""

from moorage.aws.errors import ClientFault, OurFault
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure


def access_denied(message: str = "Access Denied") -> ClientFault:
    """Make the refusal of who may not."""
    return ClientFault("AccessDenied", message, status=403)


def invalid_argument(message: str, name: str, value: str) -> ClientFault:
    """Make the refusal of a parameter's value."""
    return ClientFault("InvalidArgument", message, members={"ArgumentName": name, "ArgumentValue": value})


def invalid_request(message: str) -> ClientFault:
    """Make the refusal of a request that contradicts itself."""
    return ClientFault("InvalidRequest", message)


def not_implemented(what: str) -> ClientFault:
    """Make the refusal of what S3 has and Moorage has not; ``what`` names it."""
    return ClientFault("NotImplemented", f"Moorage's object store does not have {what}.", status=501)


def method_not_allowed(method: str) -> ClientFault:
    """Make the refusal of an HTTP method that nothing here has."""
    return ClientFault(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        status=405,
        members={"Method": method},
    )


def malformed_xml() -> ClientFault:
    """Make the refusal of a document that is not the expected one."""
    return ClientFault(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


def wrong_body_hash(declared: str, computed: str) -> ClientFault:
    """Make the refusal of a body that is not the signed one."""
    return ClientFault(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        members={"ClientComputedContentSHA256": declared, "S3ComputedContentSHA256": computed},
    )


def missing_length() -> ClientFault:
    """Make the refusal of a body of unknown size."""
    return ClientFault("MissingContentLength", "You must provide the Content-Length HTTP header.", status=411)


def too_large(proposed: int, most: int) -> ClientFault:
    """Make the refusal of a body that is too big for one request."""
    return ClientFault(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size",
        members={"ProposedSize": proposed, "MaxSizeAllowed": most},
    )


def incomplete_body(message: str = "The request body terminated unexpectedly") -> ClientFault:
    """Make the refusal of a body that is not as long as it says, or not framed as it says."""
    return ClientFault("IncompleteBody", message)


def request_timeout() -> ClientFault:
    """Make the refusal of a client that stopped sending."""
    return ClientFault(
        "RequestTimeout",
        "Your socket connection to the server was not read from or written to within the timeout period. Idle "
        "connections will be closed.",
    )


def operation_aborted() -> ClientFault:
    """Make the refusal of what somebody else has changed meanwhile."""
    return ClientFault(
        "OperationAborted",
        "A conflicting conditional operation is currently in progress against this resource. Please try again.",
        status=409,
    )


def slow_down() -> OurFault:
    """Make the refusal when too much is being done at once."""
    return OurFault("SlowDown", "Please reduce your request rate.", status=503)


def internal_error() -> OurFault:
    """Make the answer to what went wrong on our side."""
    return OurFault("InternalError", "We encountered an internal error. Please try again.")


def authentication_fault(failed: AuthenticationFailed, *, presigned: bool) -> ClientFault:
    """Make S3's error of a caller who is not known."""
    malformed = "AuthorizationQueryParametersError" if presigned else "AuthorizationHeaderMalformed"
    skewed = ClientFault(
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        status=403,
    )
    unknown = ClientFault(
        "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", status=403
    )
    return {
        AuthFailure.MISSING: access_denied(),
        AuthFailure.MALFORMED: ClientFault(malformed, failed.message),
        AuthFailure.UNKNOWN_KEY: unknown,
        AuthFailure.BAD_TOKEN: ClientFault("InvalidToken", "The provided token is malformed or otherwise invalid."),
        AuthFailure.EXPIRED_TOKEN: ClientFault("ExpiredToken", "The provided token has expired."),
        AuthFailure.BAD_SIGNATURE: signature_does_not_match(),
        AuthFailure.EXPIRED: access_denied("Request has expired"),
        AuthFailure.SKEWED: access_denied("Request is not yet valid") if presigned else skewed,
    }[failed.failure]


def signature_does_not_match() -> ClientFault:
    """Make the refusal of a wrong signature."""
    return ClientFault(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and "
        "signing method.",
        status=403,
    )


def wrong_service(service: str) -> ClientFault:
    """Make the refusal of a signature for another service."""
    return ClientFault(
        "AuthorizationHeaderMalformed",
        f'The authorization header is malformed; incorrect service "{service}". This endpoint belongs to "s3".',
    )
