"""An event in one line of words. Names and reasons come from the network and are made safe here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from neurofed import metrics, units
from neurofed.runstate import one_line, run_state_name
from neurofed.v1.monitor_pb2 import Event


def event_line(event: Event) -> str:
    """What happened, with the time of day on this machine.

    Args:
        event: any event.

    Returns:
        One printable line; empty for a kind of event that this version does not know.
    """
    kind = event.WhichOneof("payload")
    if kind is None:
        return ""
    words = _WORDS.get(kind, lambda payload: _plain(kind, payload))
    clock = time.strftime("%H:%M:%S", time.localtime(min(max(event.time_unix_s, 0.0), 4e9)))
    return one_line(f"{clock} {words(getattr(event, kind))}")


def _plain(kind: str, payload: Any) -> str:
    """An event that has no words of its own: its kind, whom it is about, and why."""
    who = getattr(payload, "worker", "") or getattr(payload, "name", "")
    return _with(f"{kind.replace('_', ' ')} {who}".rstrip(), getattr(payload, "reason", ""))


def _with(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


def _quality(found: Mapping[str, float]) -> str:
    shown = []
    if metrics.ACCURACY in found:
        shown.append(f"accuracy {units.percent(found[metrics.ACCURACY])}")
    return ", ".join([*shown, *([f"loss {units.number(found[metrics.LOSS])}"] if metrics.LOSS in found else [])])


_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "run_submitted": lambda e: f"{e.run_id} submitted",
    "workers_awaited": lambda e: f"waiting for workers: {len(e.joined)} of {e.wanted}",
    "run_started": lambda e: f"starting at round {e.first_round} with {len(e.workers)} workers",
    "worker_joined": lambda e: f"{e.name} {'rejoined' if e.rejoined else 'joined'}",
    "worker_lost": lambda e: _with(f"{e.name} lost", e.reason),
    "round_started": lambda e: f"round {e.round} started with {len(e.workers)} workers",
    "task_sent": lambda e: f"round {e.round}: {e.kind} sent to {e.worker}, {units.data(e.bytes_down)}",
    "task_progress": lambda e: f"round {e.round}: {e.worker} at step {e.step} of {e.steps}",
    "result_received": lambda e: f"round {e.round}: update of {e.worker}, {units.data(e.bytes_up)}",
    "result_rejected": lambda e: _with(f"round {e.round}: update of {e.worker} rejected", e.reason),
    "task_failed": lambda e: _with(f"round {e.round}: {e.worker} failed", e.reason),
    "task_withdrawn": lambda e: _with(f"round {e.round}: task of {e.worker} withdrawn", e.reason),
    "worker_drained": lambda e: _with(f"{e.name} asked to leave", e.reason),
    "samples_published": lambda e: f"round {e.round}: {len(e.samples)} samples published",
    "worker_quarantined": lambda e: _with(f"{e.name} in quarantine", e.reason),
    "round_aggregated": lambda e: f"round {e.round} aggregated from {e.updates} updates",
    "model_evaluated": lambda e: _with(f"round {e.round} evaluated", _quality(e.metrics)),
    "checkpoint_written": lambda e: f"round {e.round} is safe on disk",
    "checkpoint_skipped": lambda e: _with(f"{e.file} is damaged and was skipped", e.reason),
    "pause_requested": lambda e: "pause asked for",
    "run_paused": lambda e: "paused",
    "run_resumed": lambda e: "resumed",
    "run_finished": lambda e: _with(run_state_name(e.state), e.reason),
}
