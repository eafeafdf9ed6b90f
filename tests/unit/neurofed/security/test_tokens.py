"""One-time join tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from neurofed.errors import ConfigError, CredentialsError, TokenError
from neurofed.security.pki import Pki
from neurofed.security.tokens import Token, TokenStore

HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens")


def test_the_store_does_not_know_the_secret(store: TokenStore, tmp_path: Path) -> None:
    token = store.new("board-1", HOUR, "")
    (file,) = (tmp_path / "tokens").iterdir()
    assert token.secret not in file.name + file.read_text()


def test_a_token_counts_for_one_key_and_for_it_again(store: TokenStore, tmp_path: Path) -> None:
    token = store.new("board-1", HOUR, "")
    store.redeem(token.secret, "board-1", "key-a")
    again = TokenStore(tmp_path / "tokens")
    again.redeem(token.secret, "board-1", "key-a")
    with pytest.raises(TokenError, match="used already"):
        again.redeem(token.secret, "board-1", "key-b")


def test_a_refused_try_does_not_use_it_up(store: TokenStore) -> None:
    token = store.new("board-1", HOUR, "")
    with pytest.raises(TokenError, match=r"'board-1'.*'board-2'"):
        store.redeem(token.secret, "board-2", "key-b")
    store.redeem(token.secret, "board-1", "key-a")


def test_expired_and_unknown_tokens_do_not_count(store: TokenStore) -> None:
    expired = store.new("board-1", -HOUR, "")
    with pytest.raises(TokenError, match="expired at"):
        store.redeem(expired.secret, "board-1", "key")
    for secret in ("", "x", "../../etc/passwd", expired.secret + "x"):
        with pytest.raises(TokenError, match="unknown"):
            store.redeem(secret, "board-1", "key")


def test_the_file_holds_what_a_worker_needs(root: Path, pki: Pki) -> None:
    file = root / "board-3.token"
    pki.token("board-3", HOUR, file)
    token = Token.read(file)
    assert (token.name, token.ca) == ("board-3", pki.ca.pem.decode())
    pki.ca.tokens.redeem(token.secret, "board-3", "key")
    with pytest.raises(ConfigError, match="nothing was changed"):
        pki.token("board-3", HOUR, file)
    with pytest.raises(ConfigError, match="name"):
        pki.token("../x", HOUR, root / "x.token")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"name": 1, "secret": "", "expires": "", "ca": ""}'])
def test_other_files_are_no_tokens(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(CredentialsError, match="provision token"):
        Token.read(file)


def test_a_token_that_others_can_read_is_refused(root: Path, pki: Pki) -> None:
    file = root / "board-3.token"
    pki.token("board-3", HOUR, file)
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match="mode 0644"):
        Token.read(file)
