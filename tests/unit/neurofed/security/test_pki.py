"""What `neurofed provision` makes and keeps."""

from __future__ import annotations

import ipaddress
import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from neurofed.cli.provision import provision
from neurofed.errors import ConfigError, CredentialsError
from neurofed.security.credentials import load, read_certificate
from neurofed.security.identity import Role, peer_of
from neurofed.security.pki import Pki


def _command(*arguments: object) -> Any:
    done = CliRunner().invoke(provision, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def _policy(root: Path) -> PolicyBuilder:
    return PolicyBuilder().store(Store([read_certificate(root / "ca" / "ca.crt")]))


def test_nobody_but_the_owner_can_read_anything(root: Path, pki: Pki) -> None:
    pki.token("board-3", timedelta(hours=1), root / "board-3.token")
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_each_folder_is_whole_and_says_who_it_is_for(root: Path) -> None:
    for folder, role, name in [
        ("server", Role.SERVER, "server"),
        ("operator", Role.OPERATOR, "operator"),
        ("viewer", Role.VIEWER, "viewer"),
        ("worker-board-1", Role.WORKER, "board-1"),
        ("worker-board-2", Role.WORKER, "board-2"),
    ]:
        found = root / folder
        load(found / "ca.crt", found / "tls.crt", found / "tls.key")
        peer = peer_of(read_certificate(found / "tls.crt"))
        assert peer
        assert (peer.role, peer.name) == (role, name)


@pytest.mark.parametrize(
    "name",
    [
        *map(x509.DNSName, ("agg.example", "localhost")),
        *(x509.IPAddress(ipaddress.ip_address(host)) for host in ("10.0.0.5", "127.0.0.1", "::1")),
    ],
)
def test_the_server_is_vouched_for_under_its_hosts(root: Path, name: x509.DNSName | x509.IPAddress) -> None:
    server = read_certificate(root / "server" / "tls.crt")
    assert _policy(root).build_server_verifier(name).verify(server, [])[0] == server
    with pytest.raises(VerificationError):
        _policy(root).build_server_verifier(x509.DNSName("elsewhere.example")).verify(server, [])


def test_a_worker_can_neither_pose_as_the_aggregator_nor_sign_others(root: Path) -> None:
    worker = read_certificate(root / "worker-board-1" / "tls.crt")
    usage = worker.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not worker.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not worker.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    authority = read_certificate(root / "ca" / "ca.crt")
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_folder_with_something_in_it_is_left_alone(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="nothing was changed"):
        Pki.create(root, [], [])
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("hosts", "workers"),
    [
        (["agg.example:9050"], []),
        (["300.1.1.1"], []),
        (["-x"], []),
        ([], ["../board"]),
        ([], [""]),
        ([], ["b" * 65]),
        ([], ["a", "a"]),
    ],
)
def test_a_wrong_name_leaves_nothing_behind(tmp_path: Path, hosts: list[str], workers: list[str]) -> None:
    with pytest.raises(ConfigError):
        Pki.create(tmp_path / "pki", hosts, workers)
    assert list(tmp_path.iterdir()) == []


def test_renewal_keeps_key_and_hosts(root: Path, pki: Pki) -> None:
    before, key = read_certificate(root / "server" / "tls.crt"), (root / "server" / "tls.key").read_bytes()
    pki.issue(Role.SERVER, "server", renew=True)
    after = read_certificate(root / "server" / "tls.crt")
    assert after.serial_number != before.serial_number
    assert (root / "server" / "tls.key").read_bytes() == key
    names = [c.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for c in (before, after)]
    assert names[0] == names[1]
    with pytest.raises(ConfigError, match="--renew"):
        pki.issue(Role.SERVER, "server")
    with pytest.raises(ConfigError, match="not there"):
        pki.issue(Role.WORKER, "board-9", renew=True)


def test_revoking_a_name_revokes_all_its_certificates_and_a_serial_one(root: Path, pki: Pki) -> None:
    pki.issue(Role.WORKER, "board-1", renew=True)
    serials = {peer.serial for peer in pki.ca.issued() if peer.name == "board-1"}
    assert len(serials) == 2
    assert {peer.serial for peer in pki.revoke(["board-1"])} == serials
    assert pki.revoke(["board-1"]) == []
    (other,) = (peer.serial for peer in pki.ca.issued() if peer.name == "board-2")
    pki.revoke([other])
    assert pki.revoked() == serials | {other}
    with pytest.raises(ConfigError, match="board-2"):
        pki.revoke(["board-99"])


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    root = tmp_path / "pki"
    made = _command("init", root, "--worker", "board-1")
    assert made["ca_fingerprint"].startswith("sha256:")
    assert {(row["role"], row["name"]) for row in made["certificates"]} == {
        ("server", "server"),
        ("operator", "operator"),
        ("viewer", "viewer"),
        ("worker", "board-1"),
    }
    assert _command("issue", root, "viewer", "grafana") == {"folders": [str(root / "viewer-grafana")]}
    assert _command("token", root, "board-2") == {"name": "board-2", "file": str(root / "board-2.token")}
    (revoked,) = _command("revoke", root, "board-1")["revoked"]
    rows = _command("list", root)["certificates"]
    assert [row["serial"] for row in rows if row["revoked"]] == [revoked["serial"]]


def test_an_authority_that_others_can_read_signs_nothing(root: Path) -> None:
    (root / "ca" / "ca.key").chmod(0o640)
    with pytest.raises(CredentialsError, match="chmod 600"):
        Pki(root)
