"""A headless browser, and a federation of this machine for it to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import need, need_program
from support_browser import WORKERS, Look, finished_run

from neurofed.client import AggregatorClient
from neurofed.launch import LocalFleet


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or the one that CHROMIUM names."""
    playwright = need("playwright.sync_api", "browser")
    program = os.environ.get("CHROMIUM")
    if program is None:
        need_program(program := "chromium")
    with playwright.sync_playwright() as running:
        # Root has no sandbox to start, and containers have a small /dev/shm.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = running.chromium.launch(executable_path=shutil.which(program) or program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: NEUROFED_ARTEFACTS, or a folder of the tests."""
    folder = Path(os.environ.get("NEUROFED_ARTEFACTS", "")) if "NEUROFED_ARTEFACTS" in os.environ else None
    folder = folder or tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def look(browser: Any) -> Iterator[Look]:
    """Pages that must not complain."""
    look = Look(browser)
    yield look
    assert look.complaints == []


@pytest.fixture(scope="module")
def federation(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    """An aggregator with a page and three workers; beside a run to come, two that ended, one with hostile words."""
    folder = tmp_path_factory.mktemp("federation")
    finished_run(folder / "runs", "earlier", (0.2, 0.5))
    finished_run(folder / "runs", "hostile", (0.1, 0.4), hostile=True)
    chips = ("core20_28nm",) * WORKERS
    with LocalFleet("127.0.0.1:0", folder / "runs", folder / "logs", chips, http="0") as fleet:
        yield fleet


@pytest.fixture
def client(federation: LocalFleet) -> Iterator[AggregatorClient]:
    """The operator's client."""
    with AggregatorClient(federation.address) as client:
        yield client
