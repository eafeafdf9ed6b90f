"""Which files are used, which are refused, and where plain text is allowed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neurofed.errors import ConfigError, CredentialsError
from neurofed.security.identity import Role
from neurofed.security.options import Security, is_loopback
from neurofed.security.pki import Pki


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_plain_text_stays_on_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert Security().credentials(host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "agg.example", "localhost.example", "127.1", ""])
def test_plain_text_does_not_leave_it_unasked(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"--tls-dir.*--insecure"):
        Security().credentials(host)
    assert not caplog.records
    assert Security(insecure=True).credentials(host) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_credentials_are_used_wherever_they_are_given(root: Path) -> None:
    security = Security(root / "operator")
    for host in ("127.0.0.1", "agg.example"):
        credentials = security.credentials(host)
        assert credentials
        assert credentials.cert == (root / "operator" / "tls.crt").read_bytes()
    assert security.own_name() == "operator"
    assert Security().own_name() is None


def test_one_file_stands_in_for_that_of_the_folder(root: Path) -> None:
    files = Security(root / "viewer", cert=root / "operator" / "tls.crt", key=root / "operator" / "tls.key")
    assert files.own_name() == "operator"
    assert files.credentials("127.0.0.1")


def test_contradictions_and_gaps_are_named(root: Path) -> None:
    with pytest.raises(ConfigError, match="got both"):
        Security(root / "operator", insecure=True).credentials("127.0.0.1")
    with pytest.raises(ConfigError, match="--tls-cert and --tls-key"):
        Security(ca=root / "ca" / "ca.crt").credentials("127.0.0.1")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(root: Path, mode: int) -> None:
    key = root / "worker-board-1" / "tls.key"
    key.chmod(mode)
    with pytest.raises(CredentialsError, match=f"mode {mode:04o}: chmod 600 {key}"):
        Security(key.parent).credentials("agg.example")


def _swap_key(folder: Path) -> None:
    shutil.copy(folder.parent / "viewer" / "tls.key", folder / "tls.key")


def _empty_key(folder: Path) -> None:
    (folder / "tls.key").write_bytes(b"")


def _certificate_for_key(folder: Path) -> None:
    (folder / "tls.key").write_bytes((folder / "tls.crt").read_bytes())


def _no_key(folder: Path) -> None:
    (folder / "tls.key").unlink()


def _no_ca(folder: Path) -> None:
    (folder / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def _expired(folder: Path) -> None:
    Pki(folder.parent).issue(Role.OPERATOR, "operator", renew=True, days=0)


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (_swap_key, "belongs to another certificate"),
        (_empty_key, "elliptic-curve key in PEM"),
        (_certificate_for_key, "elliptic-curve key in PEM"),
        (_no_key, "tls.key: No such file"),
        (_no_ca, "certificate in PEM"),
        (_expired, "--renew"),
    ],
)
def test_files_that_cannot_work_are_refused_before_anybody_is_called(root: Path, spoil: object, hint: str) -> None:
    assert callable(spoil)
    spoil(root / "operator")
    with pytest.raises(CredentialsError, match=hint):
        Security(root / "operator").credentials("agg.example")
