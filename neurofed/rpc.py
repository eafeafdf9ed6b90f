"""Channels and servers: the options both ends agree on, and gRPC's failures in our words."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import grpc

from neurofed import errors
from neurofed.errors import ConfigError, LinkError, NeuroFedError
from neurofed.spec import DEFAULT_PORT

if TYPE_CHECKING:
    from neurofed.security.credentials import Credentials

_MAX_MESSAGE_BYTES = 8 << 20
"""Above the largest frame (a chunk of 1 MiB or a manifest), far below what could exhaust memory."""

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.enable_http_proxy", 0),
)
"""Without probing, HTTP/2 lets no more than the message that is read pile up in memory; our own windows do the rest.
Without SO_REUSEPORT a second aggregator on the same port fails instead of stealing half of the workers."""


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` in its parts; a missing port is the default one.

    Raises:
        ConfigError: if the address is malformed.
    """
    host, _, port = address.rpartition(":") if ":" in address else (address, "", str(DEFAULT_PORT))
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"expected an address HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def channel(address: str, credentials: Credentials | None = None) -> grpc.Channel:
    """A channel for blocking calls.

    Args:
        address: `HOST:PORT` of the other side.
        credentials: what to show and whom to trust; None means plain text, which `Security.credentials` decides on.

    Raises:
        ConfigError: if the address is malformed.
    """
    target = join_address(*split_address(address))
    if credentials is None:
        return grpc.insecure_channel(target, options=OPTIONS)
    return grpc.secure_channel(target, credentials.for_client(), options=OPTIONS)


def aio_channel(address: str, credentials: Credentials | None = None) -> grpc.aio.Channel:
    """The same for calls in an event loop."""
    target = join_address(*split_address(address))
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    return grpc.aio.secure_channel(target, credentials.for_client(), options=OPTIONS)


def require_free(host: str, port: int, option: str = "--listen") -> None:
    """Check that the address can be listened on; gRPC's own message does not say why it cannot.

    Raises:
        AddressInUseError: if the port is taken.
        ConfigError: if the host is not an address of this machine.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, target in infos[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
    except OSError as error:
        if error.errno == 98:
            raise errors.AddressInUseError(
                f"expected a free port, got {host}:{port} which another process listens on: "
                f"stop it or choose another with {option}"
            ) from None
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def in_our_words(error: grpc.RpcError, address: str, credentials: Credentials | None = None) -> NeuroFedError:
    """A failed call as one of our errors; where no connection came about, what was called with tells why."""
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNAVAILABLE:
        from neurofed.security.diagnosis import distrust

        return distrust(*split_address(address), credentials) or errors.UnreachableError(
            f"expected an aggregator at {address}, nobody answered ({details})"
        )
    if code == grpc.StatusCode.FAILED_PRECONDITION:
        return errors.VersionMismatchError(details)
    if code == grpc.StatusCode.ALREADY_EXISTS:
        return errors.NameInUseError(details)
    if code == grpc.StatusCode.PERMISSION_DENIED:
        return errors.AccessError(details)
    return LinkError(f"{address}: {code.name.lower().replace('_', ' ')}: {details}")
