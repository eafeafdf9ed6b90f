"""Who a certificate stands for: a role in its organisational unit, a name in its common name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names go into certificates, logs and file names."""


class Role(StrEnum):
    """What a certificate is for."""

    SERVER = "server"
    WORKER = "worker"
    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Peer:
    """The holder of a certificate.

    Attributes:
        role: what it may do.
        name: who it is.
        serial: number of its certificate, in hexadecimal.
        expires: until when the certificate counts.
    """

    role: Role
    name: str
    serial: str
    expires: datetime

    def __str__(self) -> str:
        return f"{self.role} {self.name!r}"

    @property
    def expired(self) -> bool:
        """True when its time is over, which may be in the middle of a connection."""
        return datetime.now(UTC) > self.expires


def serial_of(certificate: x509.Certificate) -> str:
    """A certificate's number as people and files write it."""
    return f"{certificate.serial_number:x}"


def subject_of(role: Role, name: str) -> x509.Name:
    """The subject that says role and name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "neurofed"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def peer_of(certificate: x509.Certificate) -> Peer | None:
    """The holder of a certificate; None where its subject is none of ours."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(units) != 1 or len(names) != 1 or units[0].value not in list(Role):
        return None
    name = str(names[0].value)
    if not NAME.fullmatch(name):
        return None
    return Peer(Role(str(units[0].value)), name, serial_of(certificate), certificate.not_valid_after_utc)


@lru_cache(maxsize=1024)
def _peer_of_pem(pem: bytes) -> Peer | None:
    return peer_of(x509.load_pem_x509_certificate(pem))


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> Peer | None:
    """Who makes this call; None on a plaintext connection, and where the certificate is none of ours."""
    pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    return _peer_of_pem(pem) if pem else None


async def require_name(context: grpc.aio.ServicerContext[Any, Any], name: str) -> None:
    """End a call that is made under a name which is not in the caller's certificate."""
    peer = caller(context)
    if peer is not None and peer.name != name:
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"expected the name {peer.name!r} of this worker's certificate, got {name!r}: give --name {peer.name}",
        )
