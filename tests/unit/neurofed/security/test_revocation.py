"""The list of revoked certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofed.errors import CredentialsError
from neurofed.security.revocation import RevocationList


def test_a_list_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "revoked.txt"
    revoked = RevocationList(file)
    assert "abc1" not in revoked
    file.write_text("# nobody yet\n\nabc1  # board-1\n00:AB:C2\n")
    assert "abc1" in revoked
    assert "abc2" in revoked
    file.write_text("abc2\n")
    assert "abc1" not in revoked
    assert "abc2" in revoked


def test_a_list_that_cannot_be_read_revokes_no_less_than_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "revoked.txt"
    file.write_text("abc1\n")
    revoked = RevocationList(file)
    for spoil in (lambda: file.write_text("board-1\n"), file.unlink):
        spoil()
        caplog.clear()
        assert "abc1" in revoked
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    file.write_text("abc3\n")
    assert "abc3" in revoked
    assert "abc1" not in revoked


def test_a_malformed_list_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "revoked.txt"
    file.write_text("abc1\nboard-1\n")
    with pytest.raises(CredentialsError, match="line 2"):
        RevocationList(file)


def test_without_a_list_nothing_is_revoked() -> None:
    assert "abc1" not in RevocationList(None)
