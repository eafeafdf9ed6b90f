"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from neurofed.sdnotify import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_facts_arrive_as_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    path = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + path if abstract else path)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if abstract else path)
        assert notify(READY="1", STATUS="joined 10.0.0.5:9050")
        assert listener.recv(1024) == b"READY=1\nSTATUS=joined 10.0.0.5:9050\n"


@pytest.mark.parametrize("path", [None, "", "relative", "/nowhere/notify"])
def test_without_a_listener_nothing_happens(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if path is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not notify(READY="1")
