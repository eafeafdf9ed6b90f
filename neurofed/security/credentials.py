"""A CA, a certificate and its key: read, checked, and in gRPC's terms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from neurofed.errors import CredentialsError
from neurofed.security.ca import PrivateKey, key_pem
from neurofed.security.private import read_file, read_secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one side of a TLS connection brings along.

    Attributes:
        ca: PEM of the authorities that are trusted.
        cert: PEM of this side's certificate; empty for a worker that has none yet.
        key: PEM of its key.
        files: where certificate and key lie.
    """

    ca: bytes
    cert: bytes = b""
    key: bytes = b""
    files: tuple[Path, Path] | None = None

    def for_client(self) -> grpc.ChannelCredentials:
        """To call with."""
        return grpc.ssl_channel_credentials(self.ca, self.key or None, self.cert or None)

    def for_server(self) -> grpc.ServerCredentials:
        """To be called with; only callers whose certificate our authority signed get through."""
        return grpc.ssl_server_credentials([(self.key, self.cert)], self.ca, require_client_auth=True)

    def for_strangers(self) -> grpc.ServerCredentials:
        """To be called with by those who have no certificate yet."""
        return grpc.ssl_server_credentials([(self.key, self.cert)])


def load(ca: Path, cert: Path, key: Path) -> Credentials:
    """Read credentials, and find out here what a failed handshake would not tell.

    Raises:
        CredentialsError: if a file is missing or malformed, the key is readable by others or does not fit, or the
            certificate does not count now.
    """
    ca_pem = read_file(ca, "the certificate of the authority")
    _require_certificate(ca, ca_pem)
    certificate = read_certificate(cert)
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise CredentialsError(
            f"expected a certificate that counts at {now:%F %T} UTC, got {cert} which counts from "
            f"{certificate.not_valid_before_utc:%F %T} to {certificate.not_valid_after_utc:%F %T}: "
            "renew it with `neurofed provision issue --renew`, or set this machine's clock"
        )
    private = read_key(key)
    if private.public_key() != certificate.public_key():
        raise CredentialsError(f"expected the key of {cert}, got {key} which belongs to another certificate")
    return Credentials(ca_pem, read_file(cert, "a certificate"), key_pem(private), (cert, key))


def read_key(path: Path) -> PrivateKey:
    """Read a private key.

    Raises:
        CredentialsError: if it is missing, malformed, readable by others, or of a kind that we do not use.
    """
    pem = read_secret(path, "a private key")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, PrivateKey):
        raise CredentialsError(f"expected an elliptic-curve key in PEM without a passphrase, got {path}")
    return key


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate, the first of its file.

    Raises:
        CredentialsError: if there is none.
    """
    return _require_certificate(path, read_file(path, "a certificate"))


def _require_certificate(path: Path, pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CredentialsError(f"expected a certificate in PEM, got {path}") from None
