"""The enrolment service: workers with a join token get their certificate here."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from neurofed.errors import DataError, TokenError
from neurofed.security.ca import PublicKey, cert_pem
from neurofed.security.identity import Role, serial_of
from neurofed.security.pki import CaFolder
from neurofed.v1 import enrol_pb2
from neurofed.v1.enrol_pb2_grpc import EnrolServiceServicer

_LOG = logging.getLogger(__name__)
_MAX_CSR_BYTES = 8192
_CURVES = ("secp256r1", "secp384r1")

LIMITS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", 2 * _MAX_CSR_BYTES),
    ("grpc.so_reuseport", 0),
)
"""Anybody can call here, so nobody gets much memory."""
MAX_CALLS = 16


class EnrolService(EnrolServiceServicer):
    """Exchanges join tokens for certificates; see enrol.proto.

    Args:
        ca: signs the certificates and knows the tokens.
    """

    def __init__(self, ca: CaFolder) -> None:
        self._ca = ca

    async def Enrol(  # noqa: N802 (the name is the protocol's)
        self, request: enrol_pb2.EnrolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> enrol_pb2.EnrolResponse:
        """Sign a worker's key. Of its request only key and name count, all else is ours to say."""
        try:
            name, key = _read_request(request.csr)
            self._ca.tokens.redeem(request.token, name, _key_fingerprint(key))
        except DataError as error:
            _LOG.warning("enrolment from %s refused: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TokenError as error:
            _LOG.warning("enrolment from %s refused: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        certificate = self._ca.issue(Role.WORKER, name, key)
        _LOG.info("enrolled worker %s from %s, certificate %s", name, context.peer(), serial_of(certificate))
        return enrol_pb2.EnrolResponse(certificate=cert_pem(certificate))


def _read_request(csr: bytes) -> tuple[str, PublicKey]:
    """Name and key of a signing request whose sender holds the key.

    Raises:
        DataError: if it is malformed.
    """
    try:
        if len(csr) > _MAX_CSR_BYTES:
            raise ValueError
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
        (name,) = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        valid = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise DataError("expected a certificate signing request for one name, got something else") from None
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise DataError(f"expected a signing request with a key on {' or '.join(_CURVES)}, signed with it")
    return str(name.value), key


def _key_fingerprint(key: PublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
