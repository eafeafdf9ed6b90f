"""The report of a run: `report.json` for programs, `report.html` for people, both from the folded events."""

from __future__ import annotations

import json
from pathlib import Path

from neurofed.files import write_atomically
from neurofed.report.data import report_data
from neurofed.report.html import render_html
from neurofed.v1.monitor_pb2 import Snapshot

__all__ = ["render_html", "report_data", "write_report"]


def write_report(run_dir: Path, snapshot: Snapshot) -> Path:
    """Write `report.json` and `report.html` into a run's folder.

    Each file is replaced as a whole: a reader sees the old one or the new one.

    Args:
        run_dir: the run's folder.
        snapshot: the folded events.

    Returns:
        The path of `report.html`.
    """
    report = report_data(snapshot)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(run_dir / "report.json", (text + "\n").encode(errors="replace"))
    write_atomically(run_dir / "report.html", render_html(report).encode(errors="replace"))
    return run_dir / "report.html"
