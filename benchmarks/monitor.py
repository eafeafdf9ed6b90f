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
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must
from benchmarks.fleet import paced, viewers
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
    """Rounds without and with viewers in turn; the viewers' delays, and the events they lost or saw twice."""
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
            rows.append({"what": "round", "pair": pair, "quiet_s": quiet, "watched_s": busy, "ratio": busy / quiet})
    return rows, late_s, wrong


def on_screen(folder: Path, window_s: float) -> list[float]:
    """Delays from an event to its line on the page; none where there is no browser."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return []
    if program is None:
        return []
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
        page.goto(f"http://{address}/")
        page.get_by_label("every step").check()
        page.wait_for_timeout(1000)
        page.evaluate(_OBSERVE)
        page.wait_for_timeout(1000 * window_s)
        late_s: list[float] = page.evaluate("window.late")
        browser.close()
    return late_s


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
    window_s, pairs = (15.0, 2) if options.quick else (60.0, 5)
    with tempfile.TemporaryDirectory() as folder:
        rows, late_s, wrong = watched(Path(folder) / "watched", window_s, pairs)
        screen_s = on_screen(Path(folder) / "screen", window_s)
    page_bytes = sum(path.stat().st_size for path in _STATIC.rglob("*") if path.suffix != ".LICENSE" and path.is_file())
    for name, values in (("stream", late_s), ("screen", screen_s)):
        if values:
            rows.append(
                {"what": name, "events": len(values), "p50_s": statistics.median(values), "p95_s": _p95(values)}
            )
    rows.append({"what": "page", "bytes": page_bytes})
    ratio = statistics.median(row["ratio"] for row in rows if row["what"] == "round")
    musts = [
        must(f"round with {VIEWERS} viewers over one without, {WORKERS} workers, median of pairs", ratio, "<=", 1.05),
        must("events that a viewer lost or saw twice", wrong, "==", 0),
        must(f"event to viewer, {VIEWERS} viewers, p95, s", _p95(late_s), "<=", 1.0),
        must(f"event to screen, {SCREEN_WORKERS} workers, p95, s", _p95(screen_s), "<=", 1.0),
        must("files of the page, bytes", page_bytes, "<=", 300_000),
    ]
    finish("monitor", options, [0], rows, musts, packages=["starlette", "uvicorn"])


if __name__ == "__main__":
    main()
