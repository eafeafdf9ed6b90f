"""A worker's first hour: it makes a key, exchanges its join token for a certificate, and keeps both."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization

from neurofed import rpc
from neurofed.errors import CredentialsError, TokenError, UnreachableError
from neurofed.security.ca import PrivateKey, key_pem, new_key
from neurofed.security.credentials import Credentials, read_key
from neurofed.security.identity import Role, peer_of, subject_of
from neurofed.security.options import CA_FILE, CERT_FILE, KEY_FILE
from neurofed.security.private import write_private
from neurofed.security.tokens import Token
from neurofed.v1 import enrol_pb2
from neurofed.v1.enrol_pb2_grpc import EnrolServiceStub

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 20.0
_PAUSE_S = 2.0


def enrol(address: str, token_file: Path, folder: Path, give_up_after_s: float | None = None) -> None:
    """Fill a folder of credentials by means of a join token; one that is filled already stays as it is.

    The key is written before it is used and the certificate last, so whenever this is interrupted, the same call later
    goes on with the same key, which the token still counts for.

    Args:
        address: `HOST:PORT` where the aggregator enrols workers.
        token_file: the token.
        folder: the folder to fill.
        give_up_after_s: how long to try to reach the aggregator; None tries for ever.

    Raises:
        SecurityError: if the token, or the aggregator, or its answer cannot be trusted.
        UnreachableError: if nobody answers for too long.
    """
    if (folder / CERT_FILE).exists():
        return
    token = Token.read(token_file)
    key = _own_key(folder / KEY_FILE)
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject_of(Role.WORKER, token.name))
    request = enrol_pb2.EnrolRequest(
        token=token.secret, csr=csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    )
    certificate = _checked(_patiently_asked(address, token, request, give_up_after_s), token, key)
    write_private(folder / CA_FILE, token.ca.encode())
    write_private(folder / CERT_FILE, certificate)
    _LOG.info("enrolled as %s, certificate in %s", token.name, folder)


def _own_key(path: Path) -> PrivateKey:
    """The key of an earlier try, or a new one."""
    if not path.exists():
        key = new_key()
        write_private(path, key_pem(key))
        return key
    return read_key(path)


def _patiently_asked(
    address: str, token: Token, request: enrol_pb2.EnrolRequest, give_up_after_s: float | None
) -> bytes:
    started_s = time.monotonic()
    while True:
        try:
            return _asked(address, Credentials(token.ca.encode()), request)
        except UnreachableError:
            if give_up_after_s is not None and time.monotonic() - started_s > give_up_after_s:
                raise
            _LOG.info("no aggregator at %s, trying again in %g s", address, _PAUSE_S)
            time.sleep(_PAUSE_S)


def _asked(address: str, credentials: Credentials, request: enrol_pb2.EnrolRequest) -> bytes:
    try:
        with rpc.channel(address, credentials) as channel:
            response: enrol_pb2.EnrolResponse = EnrolServiceStub(channel).Enrol(request, timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise TokenError(error.details() or "the join token does not count") from None
        raise rpc.in_our_words(error, address, credentials) from None
    return response.certificate


def _checked(pem: bytes, token: Token, key: PrivateKey) -> bytes:
    """The certificate, if it is what was asked for."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(token.ca.encode()))
    except (ValueError, TypeError, InvalidSignature):
        raise CredentialsError("expected a certificate of the join token's CA, got something else") from None
    peer = peer_of(certificate)
    if (
        peer is None
        or (peer.role, peer.name) != (Role.WORKER, token.name)
        or certificate.public_key() != key.public_key()
    ):
        raise CredentialsError(f"expected a certificate for the worker {token.name!r} and its key, got {peer}")
    return pem
