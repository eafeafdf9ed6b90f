"""The page's port: who may see and do what, and what is answered."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient, Response
from support_web import COMPLETED, new_run

from neurofed.errors import AddressInUseError, ConfigError, CredentialsError
from neurofed.security.identity import Role
from neurofed.security.options import Security
from neurofed.v1 import monitor_pb2 as m
from server.fleet import FleetService
from server.runs import RunManager
from server.web.app import STATIC, build
from server.web.feeds import Feeds
from server.web.gate import Gate, read_tokens
from server.web.serve import WebServer

OPERATOR, VIEWER = "operator-token-123", "viewer-token-12345"
TOKENS = {OPERATOR: Role.OPERATOR, VIEWER: Role.VIEWER}
CONTROL = {"x-neurofed": "1"}
NASTY = "<script>alert(1)</script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = new_run(tmp_path)
    (run.folder / "samples").mkdir()
    (run.folder / "samples" / "000001-0.png").write_bytes(b"a picture")
    (run.folder / "samples" / "other.png").write_bytes(b"no sample")
    samples = [m.Sample(file="samples/000001-0.png", caption=NASTY)]
    run.log.emit(m.SamplesPublished(round=1, samples=samples))
    run.log.emit(COMPLETED)
    run.log.close()
    return tmp_path


def ask(
    folder: Path, *requests: tuple[str, str, dict[str, Any]], tokens: dict[str, Role] | None = None
) -> list[Response]:
    """What the page answers to some requests of one client."""

    async def scenario() -> list[Response]:
        fleet = FleetService()
        runs = RunManager(folder, fleet)
        feeds = Feeds(runs, fleet)
        gate = Gate(build(runs, fleet, feeds, folder), tokens or {}, frozenset({"localhost"}))
        try:
            async with AsyncClient(transport=ASGITransport(gate), base_url="http://localhost:8080") as client:
                return [await client.request(method, path, **more) for method, path, more in requests]
        finally:
            feeds.close()
            await asyncio.to_thread(runs.close, stop=False)

    return asyncio.run(scenario())


def status(folder: Path, method: str, path: str, tokens: dict[str, Role] | None = None, **more: Any) -> int:
    return ask(folder, (method, path, more), tokens=tokens)[0].status_code


def test_the_run_as_json(folder: Path) -> None:
    runs, snapshot = ask(folder, ("GET", "/api/runs", {}), ("GET", "/api/runs/r/snapshot", {}))
    assert runs.json()["active"] == "r"
    assert [run["state"] for run in runs.json()["runs"]] == ["completed"]
    assert snapshot.json()["run"]["workload"] == "w"
    assert [event["seq"] for event in snapshot.json()["events"]] == [1, 2, 3, 4, 5]


def test_the_stream_of_a_run_that_has_ended(folder: Path) -> None:
    whole, rest, wrong = ask(
        folder,
        ("GET", "/api/runs/r/events", {}),
        ("GET", "/api/runs/r/events", {"headers": {"last-event-id": "3"}}),
        ("GET", "/api/runs/r/events?after=x", {}),
    )
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.text.count("event: news") == whole.text.count("event: end") == 1
    assert '"seq":4' in rest.text.partition("event: news")[0]
    assert '"seq":3,' not in rest.text.partition("event: news")[0]
    assert wrong.status_code == 400


@pytest.mark.parametrize("path", ["/api/runs/nobody/snapshot", "/api/runs/nobody/events", "/api/runs/..%2fr/snapshot"])
def test_no_such_run(folder: Path, path: str) -> None:
    assert status(folder, "GET", path) == 404


def test_pictures_of_samples_and_nothing_else(folder: Path) -> None:
    found, other, outside = ask(
        folder,
        ("GET", "/api/runs/r/samples/000001-0.png", {}),
        ("GET", "/api/runs/r/samples/other.png", {}),
        ("GET", "/api/runs/r/samples/..%2f..%2fevents.jsonl", {}),
    )
    assert (found.content, found.headers["content-type"]) == (b"a picture", "image/png")
    assert (other.status_code, outside.status_code) == (404, 404)


def test_foreign_text_is_data_and_the_page_runs_nothing_inline(folder: Path) -> None:
    page, snapshot = ask(folder, ("GET", "/", {}), ("GET", "/api/runs/r/snapshot", {}))
    assert snapshot.headers["content-type"] == "application/json"
    assert snapshot.json()["run"]["samples"][0]["caption"] == NASTY
    for response in (page, snapshot):
        assert response.headers["x-content-type-options"] == "nosniff"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    scripts = "".join(path.read_text() for path in STATIC.glob("*.js"))
    for door in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert door not in scripts


def test_the_page_loads_nothing_from_elsewhere_and_is_light() -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 300_000
    for path in files:
        if path.suffix in (".html", ".css", ".js") and path.parent == STATIC:
            assert "//" not in path.read_text().replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert (STATIC / "vendor" / "uPlot.LICENSE").is_file()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])
def test_a_page_of_another_name_gets_nothing(folder: Path, host: str) -> None:
    assert status(folder, "GET", "/api/runs", headers={"host": host}) == 421


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:9", "[::1]:8080", "LOCALHOST"])
def test_this_machine_by_any_of_its_names(folder: Path, host: str) -> None:
    assert status(folder, "GET", "/api/runs", headers={"host": host}) == 200


def test_control_asks_for_a_header_that_other_pages_cannot_send(folder: Path) -> None:
    path = "/api/runs/r/pause"
    assert status(folder, "POST", path) == 403
    assert status(folder, "POST", path, headers={**CONTROL, "origin": "http://evil.example"}) == 403
    assert status(folder, "GET", path, headers=CONTROL) == 405
    # It gets through to the run, which has ended.
    assert status(folder, "POST", path, headers={**CONTROL, "origin": "http://localhost:8080"}) == 409
    assert status(folder, "POST", "/api/runs/r/explode", headers=CONTROL) == 404
    assert status(folder, "POST", "/api/workers/nobody/drain", headers=CONTROL) == 404


def test_a_run_that_has_ended_is_resumed(folder: Path) -> None:
    done, runs = ask(folder, ("POST", "/api/runs/r/resume", {"headers": CONTROL}), ("GET", "/api/runs", {}))
    assert done.status_code == 200
    assert runs.json()["runs"][0]["state"] == "waiting"


@pytest.mark.parametrize(
    "path", ["/api/runs", "/api/runs/r/snapshot", "/api/runs/r/events", "/metrics", "/api/workers"]
)
def test_nothing_is_shown_without_a_token_where_there_are_tokens(folder: Path, path: str) -> None:
    assert status(folder, "GET", path, TOKENS) == 401
    assert status(folder, "GET", path, TOKENS, headers={"authorization": "Bearer wrong"}) == 401
    assert status(folder, "GET", path, TOKENS, headers={"cookie": b"neurofed=\xe9"}) == 401
    assert status(folder, "GET", path, TOKENS, headers={"authorization": f"Bearer {VIEWER}"}) == 200


def test_a_viewer_looks_and_an_operator_acts(folder: Path) -> None:
    for token, expected in ((VIEWER, 403), (OPERATOR, 409), ("", 401)):
        headers = {**CONTROL, "authorization": f"Bearer {token}"}
        assert status(folder, "POST", "/api/runs/r/pause", TOKENS, headers=headers) == expected


def test_a_browser_gets_a_cookie_for_a_token(folder: Path) -> None:
    before, wrong, right, after, act = ask(
        folder,
        ("GET", "/api/session", {}),
        ("POST", "/api/session", {"headers": CONTROL, "content": "wrong"}),
        ("POST", "/api/session", {"headers": CONTROL, "content": VIEWER}),
        ("GET", "/api/session", {}),
        ("POST", "/api/runs/r/stop", {"headers": CONTROL}),
        tokens=TOKENS,
    )
    assert [r.status_code for r in (before, wrong, right, after, act)] == [401, 401, 200, 200, 403]
    assert after.json()["role"] == "viewer"
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert VIEWER not in cookie
    assert status(folder, "POST", "/api/session", TOKENS, headers=CONTROL, content="x" * 5000) == 413


def _token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_tokens(tmp_path: Path) -> None:
    path = _token_file(tmp_path, f"# who\noperator {OPERATOR}\n\nviewer {VIEWER}\n")
    assert read_tokens(path) == TOKENS


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", 0o600),
        ("operator short", 0o600),
        (f"worker {OPERATOR}", 0o600),
        (OPERATOR, 0o600),
        (f"viewer {VIEWER}", 0o644),
    ],
)
def test_a_file_of_tokens_that_is_none(tmp_path: Path, text: str, mode: int) -> None:
    with pytest.raises(CredentialsError):
        read_tokens(_token_file(tmp_path, text, mode))


def test_off_the_loopback_interface_tokens_and_tls_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TLS"):
        WebServer("0.0.0.0:0", Security(), None)
    with pytest.raises(ConfigError, match="--http-token-file"):
        WebServer("0.0.0.0:0", Security(insecure=True), None)
    server = WebServer("0.0.0.0:0", Security(insecure=True), _token_file(tmp_path, f"viewer {VIEWER}"))
    asyncio.run(server.close())


def test_a_port_that_is_taken() -> None:
    server = WebServer("0", Security(), None)
    port = server.url.rstrip("/").rpartition(":")[2]
    with pytest.raises(AddressInUseError, match="--http"):
        WebServer(port, Security(), None)
    asyncio.run(server.close())


def test_files_of_the_page_are_those_of_the_package() -> None:
    assert os.access(STATIC / "index.html", os.R_OK)
