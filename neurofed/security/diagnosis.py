"""Why a connection could not be made.

gRPC says of most failed handshakes no more than that the socket was closed. So the handshake is done once more with the
standard library, which says why.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from neurofed.errors import UntrustedError

if TYPE_CHECKING:
    from neurofed.security.credentials import Credentials

_TIMEOUT_S = 3.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How an HTTP/2 connection begins: a server that accepts the caller's certificate answers it."""


def distrust(host: str, port: int, credentials: Credentials | None) -> UntrustedError | None:
    """Find out whether a connection fails for want of trust.

    Args:
        host: whom to call.
        port: at which port.
        credentials: what to call with; None for plain text.

    Returns:
        What is wrong; None where it is something else, such as nobody listening.
    """
    where = f"{host}:{port}"
    try:
        if credentials is None:
            return _of_plain_text(host, port, where)
        # An aggregator that goes away in mid-handshake looks like a refusal, but not twice
        return _of_tls(host, port, where, credentials) and _of_tls(host, port, where, credentials)
    except OSError:
        return None


def _of_plain_text(host: str, port: int, where: str) -> UntrustedError | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent but the greeting
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as connection, context.wrap_socket(connection):
            return UntrustedError(f"expected plain text at {where}, got TLS: give --tls-dir, or --token-file")
    except ssl.SSLError:
        return None


def _of_tls(host: str, port: int, where: str, credentials: Credentials) -> UntrustedError | None:
    context = ssl.create_default_context(cadata=credentials.ca.decode())
    context.set_alpn_protocols(["h2"])
    if credentials.files:
        context.load_cert_chain(*credentials.files)
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            if _is_answered(secured):
                return None
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        return UntrustedError(f"expected an aggregator at {where} that our CA vouches for, got: {reason}")
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER":
            return UntrustedError(f"expected TLS at {where}, got plain text: start the aggregator with --tls-dir")
        return None
    return UntrustedError(
        f"expected an aggregator that accepts our certificate, got none from {where}: the certificate must come from "
        "the same CA, count now, and be a worker's, operator's or viewer's"
    )


def _is_answered(connection: ssl.SSLSocket) -> bool:
    """True if the server goes on after the handshake; only then has it accepted the caller's certificate."""
    try:
        connection.sendall(_PREFACE)
        return bool(connection.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False
