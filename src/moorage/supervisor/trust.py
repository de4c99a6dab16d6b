"""What clients on this machine will think of the certificate: found out by a handshake in memory, before the start."""

import ssl
from dataclasses import dataclass

from moorage.gateway.certificate import Certificate

_EXPIRED = 10
_NOT_YET_VALID = 9
_OTHER_NAME = frozenset({62, 64})
"""X509_V_ERR_* of OpenSSL's x509_vfy.h."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What came out."""

    is_own_authority: bool
    """Whether the file verifies itself: clients can be told to trust it (``AWS_CA_BUNDLE``)."""
    doubts: str
    """Why clients that use our URL will refuse it; empty when they will not."""


def examine(certificate: Certificate, host: str) -> Trust:
    """Look at a certificate as clients do that reach the server by ``host``."""
    named = _shake_hands(certificate, host, ssl.VERIFY_X509_PARTIAL_CHAIN)
    return Trust(
        is_own_authority=_shake_hands(certificate, None, ssl.VerifyFlags(0)) is None,
        doubts=_in_words(named, certificate, host) if named is not None else "",
    )


def _shake_hands(
    certificate: Certificate, host: str | None, flags: ssl.VerifyFlags
) -> ssl.SSLCertVerificationError | None:
    """Connect a client that trusts what the file holds to a server that has it; give the client's objection."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = host is not None
    trusting.load_verify_locations(certificate.path)
    trusting.verify_flags = flags | ssl.VERIFY_X509_TRUSTED_FIRST
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up, server_hostname=host)
    server = certificate.context.wrap_bio(up, down, server_side=True)
    try:
        while not all([_advance(client), _advance(server)]):
            pass
    except ssl.SSLCertVerificationError as fault:
        return fault
    return None


def _advance(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _in_words(fault: ssl.SSLCertVerificationError, certificate: Certificate, host: str) -> str:
    if fault.verify_code in _OTHER_NAME:
        return f"The certificate in {certificate.path} does not name {host}: clients that use this name will refuse it."
    if fault.verify_code == _EXPIRED:
        return f"The certificate in {certificate.path} has expired."
    if fault.verify_code == _NOT_YET_VALID:
        return f"The certificate in {certificate.path} is not valid yet."
    return f"The certificate in {certificate.path} cannot be verified: {fault.verify_message}."
