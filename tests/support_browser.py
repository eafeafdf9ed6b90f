"""What tests of the page in a browser share."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from support_web import COMPLETED, new_run

from neurofed import spec
from neurofed.client import AggregatorClient
from neurofed.v1 import monitor_pb2 as m
from workloads.samples import png

WORKERS = 3
OPERATOR, VIEWER = "operator-token-123", "viewer-token-12345"
NASTY = "<img src=x onerror='window.hacked=1'><script>window.hacked=1"


class Look:
    """Pages of the browser, and what they complained of."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self.complaints: list[str] = []

    def at(self, url: str, width: int = 1280, scheme: str = "light") -> Any:
        """A page, opened."""
        context = self._browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self._hear(message.type, f"{message.text} {message.location}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._watch(url, request.url))
        page.goto(url)
        return page

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _watch(self, url: str, asked: str) -> None:
        if not asked.startswith((url.partition("#")[0], "data:")):
            self.complaints.append(f"asks {asked}")


def submit(client: AggregatorClient, run_id: str, rounds: int = 5000) -> None:
    """Queue a run that goes on until it is stopped."""
    run = spec.default_spec()
    run.preset, run.workers, run.min_workers, run.rounds = "tiny", WORKERS, 1, rounds
    client.submit(run, run_id)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """An aggregator whose page asks for a token; yields where."""
    folder.mkdir(exist_ok=True)
    tokens, address = folder / "tokens", folder / "address"
    tokens.write_text(f"operator {OPERATOR}\nviewer {VIEWER}\n")
    tokens.chmod(0o600)
    options = ("--out", folder / "runs", "--address-file", address, "--http", "0", "--http-token-file", tokens)
    command = [sys.executable, "-m", "neurofed", "server", "--listen", "127.0.0.1:0", *map(str, options)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            deadline_s = time.monotonic() + 100  # only a hang is as slow
            while not address.exists():
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline_s, "waited in vain for an aggregator"
                time.sleep(0.05)
            yield address.read_text().splitlines()[1]
        finally:
            server.kill()


def finished_run(runs: Path, name: str, accuracies: tuple[float, ...], *, hostile: bool = False) -> None:
    """A run of the past."""
    runs.mkdir(exist_ok=True)
    worker = NASTY if hostile else "a"
    run = new_run(runs, name, (worker,))
    run.log.emit(m.WorkerJoined(name=worker, chip=NASTY if hostile else "chip", cores=20, version="1"))
    for number, accuracy in enumerate(accuracies, start=1):
        run.log.emit(m.RoundStarted(round=number, workers=[worker]))
        numbers = {"loss": 1.0, "energy-j": 2.0, "energy-j/fp/mac": 2.0, "train-s": 1.0, "core-busy/00": 0.5}
        numbers |= {f"energy-j/fp/{NASTY}": 1.0, f"dram-bytes/{NASTY}": 9.0} if hostile else {}
        run.log.emit(m.ResultReceived(worker=worker, round=number, bytes_up=9, examples=1, metrics=numbers))
        rates = {"spike-rate": 0.1, f"spike-rate/{NASTY if hostile else 'conv1'}": 0.1}
        run.log.emit(m.RoundAggregated(round=number, updates=1, train_metrics=rates))
        run.log.emit(m.ModelEvaluated(round=number, metrics={"accuracy": accuracy, "loss": 1.0}, wall_s=1.0))
        run.log.emit(m.CheckpointWritten(round=number))
    if hostile:
        picture = run.folder / "samples" / "000002-0.png"
        picture.parent.mkdir()
        picture.write_bytes(png(np.zeros((2, 2), np.uint8)))
        run.log.emit(m.SamplesPublished(round=2, samples=[m.Sample(file="samples/000002-0.png", caption=NASTY)]))
        run.log.emit(m.WorkerLost(name=worker, reason=NASTY))
    run.log.emit(COMPLETED)
    run.log.close()
