"""Runs by their name or folder."""

from __future__ import annotations

from pathlib import Path

from neurofed.errors import RunNotFoundError

EVENTS = "events.jsonl"


def events_of(out: Path, run: str) -> Path:
    """The event log of a run.

    Args:
        out: folder of the runs.
        run: the run's name in it, or the path of a run's folder anywhere.

    Raises:
        RunNotFoundError: naming the runs that are there.
    """
    for folder in (out / run, Path(run)):
        if run and (folder / EVENTS).is_file():
            return folder / EVENTS
    known = ", ".join(sorted(path.parent.name for path in out.glob(f"*/{EVENTS}"))) or "none"
    raise RunNotFoundError(f"expected a run in {out} ({known}), got {run!r}")
