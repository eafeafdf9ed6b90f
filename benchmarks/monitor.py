"""What watching costs: 100 viewers of the page beside 20 workers, and how soon they see what happens.

Rounds with and without viewers take turns in one run, whose workers do nothing but wait, so what differs is the
aggregator's work. The viewers share this machine's cores with it. `screen` is a page in Chromium on a run of five
workers, from an event's time to the moment its line is in the document.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must
from benchmarks.fleet import paced, viewers
from benchmarks.fleet.longrun import memory_growth
from benchmarks.fleet.processes import Fleet, free_port, stub_run

WORKERS, VIEWERS, SCREEN_WORKERS = 20, 100, 5
STEPS, STEP_S = 8, 0.25
_PATIENCE_S = 120.0
_STATIC = Path(__file__).resolve().parents[1] / "server" / "web" / "static"
_OBSERVE = """() => {
  window.late = [];
  new MutationObserver((changes) => {
    for (const node of changes.flatMap((change) => [...change.addedNodes])) {
      const at = node.querySelector?.("time");
      if (at) window.late.push((Date.now() - Date.parse(at.dateTime)) / 1000);
    }
  }).observe(document.getElementById("log"), { childList: true });
}"""
Row = Mapping[str, Any]


def rounds_within(fleet: Fleet, run_id: str, since_s: float, until_s: float) -> list[float]:
    """Times of the rounds that began and ended within a window, in seconds."""
    starts = [entry.time_s for entry in fleet.events(run_id, "round_started")]
    return [b - a for a, b in itertools.pairwise(starts) if since_s <= a and b <= until_s]


def watched(folder: Path, window_s: float, pairs: int) -> tuple[list[Row], list[float], int]:
    """Rounds without and with viewers in turn; the viewers' delays, and the events they lost or saw twice.

    Half of the viewers are cut off every few seconds and come back with what they saw last.
    """
    rows: list[Row] = []
    late_s: list[float] = []
    wrong = 0
    address = _serve_page()
    with (
        Fleet(folder, 0, linked=False) as fleet,
        fleet.guest(paced.__name__, fleet.address, str(WORKERS), str(STEPS), str(STEP_S)),
    ):
        fleet.submit("run", stub_run(WORKERS, 100_000))
        fleet.wait_for("run", "checkpoint_written")
        for pair in range(pairs):
            times = {}
            for count in (0, VIEWERS):
                began_s = time.time()
                file = folder / f"viewers-{pair}-{count}.json"
                with fleet.guest(viewers.__name__, address, "run", str(count), str(window_s), str(file)):
                    fleet.wait_until(file.exists, "the viewers")
                times[count] = rounds_within(fleet, "run", began_s, time.time())
                found = _json(file)
                late_s += found["late_s"]
                wrong += found["wrong"]
            quiet, busy = (statistics.median(times[count]) for count in (0, VIEWERS))
            viewers_cpu = found["cpu_s"] / window_s  # of the same cores: what they take is not the aggregator's
            rows.append(
                {"what": "round", "pair": pair, "quiet_s": quiet, "watched_s": busy, "ratio": busy / quiet}
                | {"returns": found["returns"], "viewers_cpu": viewers_cpu}
            )
    return rows, late_s, wrong


@dataclass(frozen=True, slots=True)
class Screen:
    """The page in a browser; nothing where there is none."""

    late_s: list[float] = field(default_factory=list)
    """From an event to its line on the page."""
    foreign: int | None = None
    """Requests to anybody but the aggregator."""
    first_paint_s: float | None = None


def on_screen(folder: Path, window_s: float) -> Screen:
    """Look at a run in Chromium."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return Screen()
    if program is None:
        return Screen()
    address = _serve_page()
    with (
        Fleet(folder, 0, linked=False) as fleet,
        fleet.guest(paced.__name__, fleet.address, str(SCREEN_WORKERS), str(STEPS), str(STEP_S)),
        sync_playwright() as running,
    ):
        fleet.submit("run", stub_run(SCREEN_WORKERS, 100_000))
        fleet.wait_for("run", "checkpoint_written")
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{address}/")
        page.get_by_label("every step").check()
        page.wait_for_timeout(1000)
        page.evaluate(_OBSERVE)
        page.wait_for_timeout(1000 * window_s)
        late_s: list[float] = page.evaluate("window.late")
        paint_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        browser.close()
    foreign = sum(not url.startswith((f"http://{address}/", "data:")) for url in asked)
    return Screen(late_s, foreign, paint_ms and paint_ms / 1000)


def _serve_page() -> str:
    """Let the next aggregator serve the page; returns where."""
    address = f"127.0.0.1:{free_port()}"
    os.environ["NEUROFED_HTTP"] = address
    return address


def _json(file: Path) -> Any:
    import json

    return json.loads(file.read_text())


def _p95(values: list[float]) -> float | None:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else None


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    window_s, pairs, events = (6.0, 2, 50_000) if options.quick else (60.0, 5, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        grown_bytes = memory_growth(Path(folder) / "long", events)
        rows, late_s, wrong = watched(Path(folder) / "watched", window_s, pairs)
        screen = on_screen(Path(folder) / "screen", window_s)
    page_bytes = sum(path.stat().st_size for path in _STATIC.rglob("*") if path.suffix != ".LICENSE" and path.is_file())
    for name, values in (("stream", late_s), ("screen", screen.late_s)):
        if values:
            rows.append(
                {"what": name, "events": len(values), "p50_s": statistics.median(values), "p95_s": _p95(values)}
            )
    rows.append({"what": "memory", "events": events, "grown_bytes": grown_bytes})
    rows.append({"what": "page", "bytes": page_bytes, "first_paint_s": screen.first_paint_s})
    ratio = statistics.median(row["ratio"] for row in rows if row["what"] == "round")
    musts = [
        must(f"round with {VIEWERS} viewers over one without, {WORKERS} workers, median of pairs", ratio, "<=", 1.05),
        must("events that a viewer lost or saw twice, half of them cut off every few seconds", wrong, "==", 0),
        must(f"event to viewer, {VIEWERS} viewers, p95, s", _p95(late_s), "<=", 1.0),
        must(f"event to screen, {SCREEN_WORKERS} workers, p95, s", _p95(screen.late_s), "<=", 1.0),
        must(f"memory that the second half of {events} events took, bytes", grown_bytes, "<=", 20_000_000),
        must("files of the page, bytes", page_bytes, "<=", 300_000),
        must("requests of the page to others than the aggregator", screen.foreign, "==", 0),
    ]
    finish("monitor", options, [0], rows, musts, packages=["starlette", "uvicorn"])


if __name__ == "__main__":
    main()
