"""Certificates for tests, made with the ``openssl`` command."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """A certificate and its key."""

    cert: Path
    key: Path

    def replace(self, other: "Files") -> None:
        """Put another pair in the place of this one, file after file, as an administrator does."""
        for mine, new in ((self.cert, other.cert), (self.key, other.key)):
            fresh = mine.with_suffix(".new")
            fresh.write_bytes(new.read_bytes())
            fresh.replace(mine)


def make_certificate(folder: Path, name: str, names: str = "IP:127.0.0.1,DNS:localhost", *, days: int = 30) -> Files:
    """Make a certificate that verifies itself, with ``name`` as its common name."""
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl("req", "-x509", *_new_key(files.key), "-days", str(days), *_about(name, names), "-out", str(files.cert))
    return files


def make_expired_certificate(folder: Path, name: str) -> Files:
    """Make a certificate whose time was over yesterday."""
    files = make_certificate(folder, name)
    request = folder / f"{name}.csr"
    _openssl("req", "-new", "-key", str(files.key), *_about(name, "IP:127.0.0.1"), "-out", str(request))
    signing = ("-signkey", str(files.key), "-days", "-1", "-copy_extensions", "copy")
    _openssl("x509", "-req", "-in", str(request), *signing, "-out", str(files.cert))
    return files


def make_issued_certificate(folder: Path, name: str) -> tuple[Files, Path]:
    """Make a certificate that an authority has issued; gives it with the authority's certificate."""
    authority = make_certificate(folder, f"{name}-authority", "DNS:authority")
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    request = folder / f"{name}.csr"
    _openssl("req", "-new", *_new_key(files.key), *_about(name, "IP:127.0.0.1"), "-out", str(request))
    signing = ("-CA", str(authority.cert), "-CAkey", str(authority.key), "-CAcreateserial", "-copy_extensions", "copy")
    _openssl("x509", "-req", "-in", str(request), *signing, "-out", str(files.cert))
    return files, authority.cert


def encrypt_key(files: Files, into: Path) -> Files:
    """Give the same certificate with its key behind a password."""
    _openssl("pkcs8", "-topk8", "-in", str(files.key), "-out", str(into), "-passout", "pass:secret")
    return Files(files.cert, into)


def trusting(cert: Path) -> ssl.SSLContext:
    """Make a client that trusts a certificate, and wants it to name the host."""
    return ssl.create_default_context(cafile=str(cert))


def _new_key(path: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", str(path))


def _about(name: str, names: str) -> tuple[str, ...]:
    return ("-subj", f"/CN={name}", "-addext", f"subjectAltName={names}")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
