"""A failed connection is explained: real servers on the loopback interface, each wrong in one way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from neurofed import rpc
from neurofed.errors import NeuroFedError, UnreachableError, UntrustedError
from neurofed.security import diagnosis
from neurofed.security.ca import Authority, cert_pem, key_pem, new_key
from neurofed.security.credentials import Credentials
from neurofed.security.identity import Role

OURS, THEIRS = Authority.create(), Authority.create()
HOSTS = ("127.0.0.1",)


def _leaf(authority: Authority, role: Role, *, hosts: tuple[str, ...] = HOSTS, days: int = 1) -> tuple[bytes, bytes]:
    key = new_key()
    return cert_pem(authority.issue(role, role, key.public_key(), hosts, days)), key_pem(key)


def _own(folder: Path, trusted: Authority, leaf: tuple[bytes, bytes]) -> Credentials:
    files = folder / "tls.crt", folder / "tls.key"
    for path, data in zip(files, leaf, strict=True):
        path.write_bytes(data)
    return Credentials(cert_pem(trusted.certificate), *leaf, files)


@contextmanager
def _server(leaf: tuple[bytes, bytes] | None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    if leaf:
        credentials = Credentials(cert_pem(OURS.certificate), *leaf)
        port = server.add_secure_port("127.0.0.1:0", credentials.for_server())
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _failure(address: str, credentials: Credentials | None) -> NeuroFedError:
    with rpc.channel(address, credentials) as channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/neurofed.v1.MonitorService/ListWorkers")(b"", timeout=30)
    return rpc.in_our_words(failed.value, address, credentials)


@pytest.mark.parametrize(
    ("server", "hint"),
    [
        (_leaf(THEIRS, Role.SERVER), "unable to get local issuer certificate"),
        (_leaf(OURS, Role.SERVER, days=0), "certificate has expired"),
        (_leaf(OURS, Role.SERVER, hosts=("elsewhere.example",)), "IP address mismatch"),
        (_leaf(OURS, Role.WORKER), "unsuitable certificate purpose"),
        (None, "got plain text"),
    ],
)
def test_a_server_that_cannot_be_trusted(tmp_path: Path, server: tuple[bytes, bytes] | None, hint: str) -> None:
    with _server(server) as address:
        error = _failure(address, _own(tmp_path, OURS, _leaf(OURS, Role.OPERATOR)))
    assert isinstance(error, UntrustedError)
    assert hint in str(error)
    assert address in str(error)


@pytest.mark.parametrize(
    "own",
    [
        _leaf(THEIRS, Role.OPERATOR),
        _leaf(OURS, Role.OPERATOR, days=0),
        _leaf(OURS, Role.SERVER),
    ],
)
def test_a_certificate_that_the_server_does_not_accept(tmp_path: Path, own: tuple[bytes, bytes]) -> None:
    with _server(_leaf(OURS, Role.SERVER)) as address:
        error = _failure(address, _own(tmp_path, OURS, own))
        assert isinstance(error, UntrustedError)
        assert "accepts our certificate" in str(error)
        assert isinstance(_failure(address, Credentials(cert_pem(OURS.certificate))), UntrustedError)


def test_plain_text_to_a_tls_port() -> None:
    with _server(_leaf(OURS, Role.SERVER)) as address:
        error = _failure(address, None)
    assert isinstance(error, UntrustedError)
    assert "expected plain text" in str(error)
    assert "--tls-dir" in str(error)


def _hang_up(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.close()


@pytest.mark.parametrize("kind", ["nobody", "hangs up", "says nothing"])
def test_who_does_not_answer_is_not_called_untrusted(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_TIMEOUT_S", 0.2)
    own = _own(tmp_path, OURS, _leaf(OURS, Role.OPERATOR))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if kind == "hangs up":
            threading.Thread(target=_hang_up, args=(listener,), daemon=True).start()
        if kind == "nobody":
            listener.close()
        for credentials in (None, own):
            assert diagnosis.distrust("127.0.0.1", port, credentials) is None
            if kind == "nobody":
                assert isinstance(_failure(f"127.0.0.1:{port}", credentials), UnreachableError)
        if kind == "hangs up":
            listener.shutdown(socket.SHUT_RDWR)
