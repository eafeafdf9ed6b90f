"""The page's and a worker's own port with real certificates: who gets in, and what others are told."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from neurofed.security.identity import Role
from neurofed.security.pki import Pki

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

OPERATOR, VIEWER = "operator-token-123", "viewer-token-12345"


@pytest.fixture
def pki(federation: Any) -> Pki:
    """An authority with a server, an operator, a viewer and one worker."""
    return Pki.create(federation.folder / "pki", ["127.0.0.1"], ["worker-0"])


def trusting(folder: Path) -> ssl.SSLContext:
    """A caller that trusts the authority of a folder."""
    return ssl.create_default_context(cafile=folder / "ca.crt")


def showing(folder: Path | None) -> ssl.SSLContext:
    """A caller that shows a certificate and asks for none: a worker's may not be a server's."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if folder:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


def ask(url: str, context: ssl.SSLContext | None = None, token: str = "", method: str = "GET") -> tuple[int, str]:
    """Status and body of a request.

    Raises:
        OSError: if the connection is refused, or is not trusted.
    """
    headers = {"x-neurofed": "1"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        request = urllib.request.Request(url, headers=headers, method=method)
        with urllib.request.urlopen(request, context=context) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def port_of(url: str) -> str:
    return url.rstrip("/").rpartition(":")[2].partition("/")[0]


def test_the_page_behind_tls_and_tokens(federation: Any, pki: Pki) -> None:
    tokens = federation.folder / "tokens"
    tokens.write_text(f"operator {OPERATOR}\nviewer {VIEWER}\n")
    tokens.chmod(0o600)
    mine, stranger = federation.folder / "pki" / "server", Pki.create(federation.folder / "other", ["127.0.0.1"], [])
    federation.start_server("--tls-dir", str(mine), "--http", "0.0.0.0:0", "--http-token-file", str(tokens))
    url = f"https://127.0.0.1:{port_of(federation.address.splitlines()[1])}/"

    trusted = trusting(mine)
    status, page = ask(url, trusted)
    assert (status, "<title>NeuroFed" in page) == (200, True)
    assert ask(f"{url}api/runs", trusted)[0] == ask(f"{url}metrics", trusted, "wrong" * 9)[0] == 401
    assert json.loads(ask(f"{url}api/runs", trusted, VIEWER)[1]) == {"active": "", "runs": []}
    names = {family.name for family in text_string_to_metric_families(ask(f"{url}metrics", trusted, VIEWER)[1])}
    assert "neurofed_build_info" in names
    drain = f"{url}api/workers/nobody/drain"
    assert [ask(drain, trusted, token, "POST")[0] for token in ("", VIEWER, OPERATOR)] == [401, 403, 404]

    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(url, trusting(stranger.folder_of(Role.SERVER, "server")))
    with pytest.raises(OSError, match=r"."):  # the port speaks no plain HTTP
        ask(url.replace("https", "http"))


def test_a_worker_shows_its_numbers_to_callers_of_its_own_authority(federation: Any, pki: Pki) -> None:
    root = federation.folder / "pki"
    federation.start_server("--tls-dir", str(root / "server"))
    mine = ("--tls-dir", str(pki.folder_of(Role.WORKER, "worker-0")))
    worker = federation.start("worker", "join", federation.address, *mine, "--metrics", "127.0.0.1:0")
    federation.wait_for_join(worker)
    found = re.search(r"metrics at (https://\S+)", federation.log_of(worker))
    assert found, federation.log_of(worker)

    status, text = ask(found[1], showing(root / "viewer"))
    assert status == 200
    assert "neurofed_worker_busy" in {family.name for family in text_string_to_metric_families(text)}

    stranger = Pki.create(federation.folder / "other", ["127.0.0.1"], []).folder_of(Role.VIEWER, "viewer")
    pki.issue(Role.VIEWER, "viewer", renew=True, days=0)
    for refused in (None, stranger, root / "viewer"):  # which has expired
        with pytest.raises(OSError, match=r"(?i)certificate|closed|reset|alert|eof"):
            ask(found[1], showing(refused))
    with pytest.raises(OSError, match=r"."):
        ask(found[1].replace("https", "http"))


def test_a_monitor_whose_certificate_has_expired_says_so_in_a_line(federation: Any, pki: Pki) -> None:
    root = federation.folder / "pki"
    federation.start_server("--tls-dir", str(root / "server"))
    pki.issue(Role.VIEWER, "viewer", renew=True, days=0)
    done = federation.command("monitor", federation.address, "--json", "--tls-dir", str(root / "viewer"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (51, "", 1)
    assert "--renew" in done.stderr
