"""Identity and security with real certificates, sockets and processes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from neurofed import protocol, rpc
from neurofed.security.ca import new_key
from neurofed.security.credentials import Credentials
from neurofed.security.identity import Role, subject_of
from neurofed.security.options import Security
from neurofed.security.pki import Pki
from neurofed.security.tokens import Token
from neurofed.v1 import enrol_pb2, fleet_pb2
from neurofed.v1.enrol_pb2_grpc import EnrolServiceStub
from neurofed.v1.fleet_pb2_grpc import FleetServiceStub

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

TINY = ("--preset", "tiny", "--seed", "3", "--workers", "2")


@pytest.fixture
def root(federation: Any) -> Path:
    """What `neurofed provision init` makes."""
    done = federation.command("provision", "init", "pki", "--worker", "worker-0", "--worker", "worker-1")
    assert done.returncode == 0, done.stderr
    return Path(federation.folder / "pki")


@pytest.fixture
def pki(root: Path) -> Pki:
    """Its keeper."""
    return Pki(root)


def _start(federation: Any, *options: str) -> Any:
    return federation.start_server("--out", "runs", "--tls-dir", "pki/server", *options)


def _start_with_enrolment(federation: Any) -> str:
    """Start an aggregator that enrols; returns where."""
    server = _start(federation, "--enrol-dir", "pki/ca", "--enrol-listen", "127.0.0.1:0")
    found = re.search(r"enrolling workers at (\S+)", federation.log_of(server))
    assert found
    return found[1]


def _join(federation: Any, folder: str, *options: str) -> tuple[str, ...]:
    return ("worker", "join", federation.address, "--tls-dir", folder, "--give-up-after-s", "1", *options)


def _assert_ends(done: Any, code: int, hint: str) -> None:
    """One line says why, and the exit code does."""
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert hint in lines[0]


@pytest.fixture
def channel(federation: Any, root: Path) -> Iterator[Callable[[str], grpc.Channel]]:
    """Makes channels to the aggregator with the credentials of a folder."""
    channels: list[grpc.Channel] = []

    def make(folder: str) -> grpc.Channel:
        channels.append(rpc.channel(federation.address, Security(root / folder).credentials("127.0.0.1")))
        return channels[-1]

    yield make
    for each in channels:
        each.close()


def test_a_run_over_mutual_tls_gives_the_weights_of_a_plain_one(
    federation: Any, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolment = _start_with_enrolment(federation)
    pki.revoke(["worker-1"])
    pki.token("worker-1", timedelta(hours=1), federation.folder / "token")
    joined = [
        federation.start(*_join(federation, "pki/worker-worker-0")),
        federation.start(*_join(federation, "new/board", "--token-file", "token", "--enrol-address", enrolment)),
    ]
    operator = ("--address", federation.address, "--tls-dir", "pki/operator")
    submitted = federation.command("submit", *operator, *TINY, "--run-id", "secured")
    assert submitted.returncode == 0, submitted.stderr
    monkeypatch.setenv("NEUROFED_TLS_DIR", "pki/viewer")
    watched = federation.command("monitor", "secured", "--address", federation.address)
    assert watched.returncode == 0, watched.stderr + "".join(federation.log_of(worker) for worker in joined)
    plain = federation.command("run", *TINY, "--run-id", "plain")
    assert plain.returncode == 0, plain.stderr
    secured, plain = (federation.report(name)["rounds"] for name in ("secured", "plain"))
    assert [view["model_sha256"] for view in secured] == [view["model_sha256"] for view in plain]


def test_who_is_revoked_while_connected_is_put_out_and_the_others_stay(federation: Any, root: Path) -> None:
    _start(federation)
    workers = [federation.start(*_join(federation, f"pki/worker-worker-{k}")) for k in range(2)]
    for worker in workers:
        federation.wait_for_join(worker)
    revoked = federation.command("provision", "revoke", "pki", "worker-1", "--json")
    (entry,) = json.loads(revoked.stdout)["revoked"]
    assert workers[1].wait(60) == 53
    last = federation.log_of(workers[1]).splitlines()[-1]
    assert last.startswith("neurofed: ")
    assert f"{entry['serial']} of worker 'worker-1' is revoked" in last
    assert workers[0].poll() is None
    again = federation.command(*_join(federation, "pki/worker-worker-1"))
    _assert_ends(again, 53, "is revoked")


def test_a_worker_has_no_name_but_that_in_its_certificate(federation: Any, channel: Any) -> None:
    _start(federation)
    _assert_ends(
        federation.command(*_join(federation, "pki/worker-worker-0", "--name", "worker-1")), 53, "--name worker-0"
    )
    first, second = (FleetServiceStub(channel(f"worker-worker-{k}")) for k in range(2))
    request = fleet_pb2.JoinRequest(
        name="worker-0", newest_protocol=protocol.NEWEST, capabilities=[protocol.NUMERICS], instance="test"
    )
    session = first.Join(request, timeout=20).session
    hello = fleet_pb2.WorkRequest(hello=fleet_pb2.Hello(session=session))
    with pytest.raises(grpc.RpcError) as stolen:
        next(second.Work(iter([hello]), timeout=20))
    assert stolen.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_roles_are_kept_apart(federation: Any, channel: Any) -> None:
    _start(federation)
    who = ("--address", federation.address, "--tls-dir")
    assert federation.command("runs", *who, "pki/operator").returncode == 0
    _assert_ends(federation.command("submit", *who, "pki/viewer", *TINY), 53, "role operator")
    _assert_ends(federation.command("runs", *who, "pki/worker-worker-0"), 53, "role operator")
    _assert_ends(federation.command("monitor", *who, "pki/worker-worker-0"), 53, "role operator or viewer")
    _assert_ends(federation.command(*_join(federation, "pki/operator", "--name", "worker-0")), 53, "role worker")
    watching = federation.command("monitor", "nothing", *who, "pki/viewer")
    assert watching.returncode == 32, "a viewer may ask, there is no such run"


def test_who_does_not_trust_whom_is_said(federation: Any, root: Path) -> None:
    _start(federation)
    who = ("--address", federation.address)
    assert federation.command("provision", "init", "others", "--worker", "worker-0").returncode == 0
    untrusted = ("--tls-dir", "others/operator")
    _assert_ends(federation.command("runs", *who, *untrusted), 52, "our CA vouches for")
    _assert_ends(
        federation.command("runs", *who, *untrusted, "--tls-ca", "pki/ca/ca.crt"), 52, "accepts our certificate"
    )
    _assert_ends(federation.command("runs", *who), 52, "got TLS: give --tls-dir")
    _assert_ends(federation.command(*_join(federation, "others/worker-worker-0")), 52, "our CA vouches for")
    plain_join = ("worker", "join", federation.address, "--give-up-after-s", "1")
    _assert_ends(federation.command(*plain_join), 52, "got TLS: give --tls-dir")
    federation.start_server("--out", "runs")
    who = ("--address", federation.address)
    _assert_ends(federation.command("runs", *who, "--tls-dir", "pki/operator"), 52, "got plain text")
    _assert_ends(federation.command(*_join(federation, "pki/worker-worker-0")), 52, "got plain text")


def test_files_that_do_not_count_stop_the_start(federation: Any, root: Path, pki: Pki) -> None:
    for folder, command in (
        ("server", ("server", "--listen", "127.0.0.1:0", "--tls-dir", "pki/server")),
        ("worker-worker-0", ("worker", "join", "127.0.0.1:1", "--tls-dir", "pki/worker-worker-0")),
        ("operator", ("runs", "--address", "127.0.0.1:1", "--tls-dir", "pki/operator")),
    ):
        (root / folder / "tls.key").chmod(0o644)
        _assert_ends(federation.command(*command), 51, f"mode 0644: chmod 600 pki/{folder}/tls.key")
        (root / folder / "tls.key").chmod(0o600)
    pki.issue(Role.SERVER, "server", renew=True, days=0)
    expired = federation.command("server", "--listen", "127.0.0.1:0", "--tls-dir", "pki/server")
    _assert_ends(expired, 51, "--renew")


def test_plain_text_leaves_this_machine_only_when_it_is_spelled_out(federation: Any) -> None:
    for command in (
        ("server", "--listen", "0.0.0.0:0"),
        ("run", *TINY, "--listen", "0.0.0.0:0"),
        ("worker", "join", "10.0.0.5:9050"),
        ("runs", "--address", "agg.example:9050"),
    ):
        _assert_ends(federation.command(*command), 10, "or --insecure for plain text")
    server = federation.start_server("--out", "runs", "--insecure", listen="0.0.0.0:0")
    assert "WARNING" in federation.log_of(server)
    assert "plain text with 0.0.0.0" in federation.log_of(server)


def test_a_join_token_counts_once_for_its_name_and_its_time(federation: Any, root: Path, pki: Pki) -> None:
    enrolment = _start_with_enrolment(federation)
    hours = {"good": 1, "late": -1, "readable": 1}
    for name, lifetime in hours.items():
        pki.token("worker-0", timedelta(hours=lifetime), federation.folder / name)
    (federation.folder / "readable").chmod(0o644)
    Pki.create(federation.folder / "others", [], []).token(
        "worker-0", timedelta(hours=1), federation.folder / "foreign"
    )

    def join(token: str, folder: str) -> Any:
        return federation.command(
            *_join(federation, folder, "--token-file", token, "--enrol-address", enrolment, "--name", "worker-1")
        )

    enrolled = join("good", "first")
    assert enrolled.returncode == 53, "it has a certificate, and a name that is not in it"
    for path in (federation.folder / "first").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    _assert_ends(join("good", "second"), 54, "used already")
    _assert_ends(join("late", "third"), 54, "expired at")
    _assert_ends(join("readable", "fourth"), 51, "mode 0644")
    _assert_ends(join("foreign", "fifth"), 52, "our CA vouches for")
    (federation.folder / "first" / "tls.crt").unlink()
    assert join("good", "first").returncode == 53, "the answer was lost, the key is the same"
    assert {"tls.key"} == {path.name for path in (federation.folder / "second").iterdir()}
    shutil.rmtree(federation.folder / "first")
    _assert_ends(join("good", "first"), 54, "used already")


def _csr(name: str, *, valid: bool = True) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(subject_of(Role.OPERATOR, name))
    der = bytearray(request.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.DER))
    der[-1] ^= not valid
    return bytes(der)


def test_the_enrolment_port_gives_a_worker_its_certificate_and_nothing_else(
    federation: Any, root: Path, pki: Pki
) -> None:
    enrolment = _start_with_enrolment(federation)
    pki.token("worker-9", timedelta(hours=1), federation.folder / "token")
    token = Token.read(federation.folder / "token")
    with rpc.channel(enrolment, Credentials(pki.ca.pem)) as channel:

        def refusal(secret: str, csr: bytes) -> grpc.StatusCode:
            with pytest.raises(grpc.RpcError) as refused:
                EnrolServiceStub(channel).Enrol(enrol_pb2.EnrolRequest(token=secret, csr=csr), timeout=20)
            code: grpc.StatusCode = refused.value.code()
            return code

        assert refusal(token.secret, _csr("operator")) is grpc.StatusCode.UNAUTHENTICATED
        assert refusal("guess", _csr("worker-9")) is grpc.StatusCode.UNAUTHENTICATED
        assert refusal(token.secret, _csr("worker-9", valid=False)) is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal(token.secret, b"\x30\x80") is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal(token.secret, b"\0" * 100_000) is grpc.StatusCode.RESOURCE_EXHAUSTED
        request = enrol_pb2.EnrolRequest(token=token.secret, csr=_csr("worker-9"))
        certificate = x509.load_pem_x509_certificate(EnrolServiceStub(channel).Enrol(request, timeout=20).certificate)
        assert certificate.subject == subject_of(Role.WORKER, "worker-9"), (
            "the role asked for is not the worker's to say"
        )
        with pytest.raises(grpc.RpcError) as other:
            FleetServiceStub(channel).Join(fleet_pb2.JoinRequest(name="worker-9"), timeout=20)
        assert other.value.code() is grpc.StatusCode.UNIMPLEMENTED
