"""The report of a run: `report.json` for programs, `report.html` for people, both from the folded events."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from neurofed.report.data import report_data
from neurofed.report.html import render_html
from neurofed.v1.monitor_pb2 import Snapshot

__all__ = ["render_html", "report_data", "write_report"]


def write_report(run_dir: Path, snapshot: Snapshot) -> Path:
    """Write `report.json` and `report.html` into a run's folder.

    Each file is replaced as a whole: a reader sees the old one or the new one.

    Args:
        run_dir: the run's folder; it has to exist.
        snapshot: the folded events.

    Returns:
        The path of `report.html`.
    """
    report = report_data(snapshot)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    _replace(run_dir / "report.json", text + "\n")
    _replace(run_dir / "report.html", render_html(report))
    return run_dir / "report.html"


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="replace", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
