"""A run's snapshot as the page gets it: the figures of the report, in parts that can be sent one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from neurofed import metrics
from neurofed.report.data import Data, headline, report_data, round_data
from neurofed.runstate import run_state_name, samples_per_s, steps_per_s
from neurofed.v1.control_pb2 import RunEntry
from neurofed.v1.monitor_pb2 import Event, RoundView, Snapshot, WorkerEntry, WorkerState

_MAX_NOTES: Final = 50
_STRUCTURED: Final = {
    "energy_by_part": metrics.ENERGY_J,
    "dram_by_class": metrics.DRAM_BYTES,
    "cycles_by_engine": metrics.CYCLES,
    "ops_dense": metrics.OPS_DENSE,
    "ops_executed": metrics.OPS_EXECUTED,
}
"""Figures of a round with parts, `{"fp/mac": 1.5e-6}`, summed over its workers."""
_IDENTITY: Final = tuple(field.name for field in Snapshot.DESCRIPTOR.fields if field.name not in ("rounds", "samples"))
_ELSEWHERE: Final = frozenset(
    {"rounds", "final", "fleet", "events", "spec", "provenance", "cycles_rule", "emulated_rule"}
)
"""What a report says beside that: in parts of its own, or the same of every run."""
_EVERYTHING: Final = frozenset({"run_submitted", "run_started"})
"""Events that may change rounds which they do not name; those that a round done again takes away need no view."""


def run_view(snapshot: Snapshot) -> Data:
    """What there is to say of a run beside its rounds and workers."""
    identity = report_data(Snapshot(**{name: getattr(snapshot, name) for name in _IDENTITY}))
    for name in _ELSEWHERE:
        identity.pop(name, None)
    identity["workers_wanted"] = identity.pop("workers")
    return {
        **identity,
        "headline": headline(snapshot),
        "notes": list(snapshot.notes[-_MAX_NOTES:]),
        "samples_round": snapshot.samples.round,
        "samples": [{"file": sample.file, "caption": sample.caption} for sample in snapshot.samples.samples],
    }


def workers_view(snapshot: Snapshot) -> dict[str, Data]:
    """The workers that the run has seen, by name."""
    speeds = samples_per_s(snapshot)
    return {
        worker.name: {
            "chip": worker.chip,
            "cores": worker.cores,
            "version": worker.version,
            "present": worker.present,
            "refused": worker.refused,
            "quarantined": worker.quarantined,
            "drained": worker.drained,
            "samples_per_s": speeds.get(worker.name),
        }
        for worker in snapshot.workers
    }


def round_view(view: RoundView) -> Data:
    """One round: the report's figures; those with parts summed over its workers."""
    data = round_data(view)
    for part, shown in zip(view.workers, data["workers"], strict=True):
        reported: dict[str, float] = shown.pop("metrics")
        shown["train_s"] = reported.get(metrics.TRAIN_S)
        shown["steps_per_s"] = steps_per_s(part)
        shown["core_busy"] = [value for _, value in sorted(metrics.parts(reported, metrics.CORE_BUSY).items())]
        for name, structured in _STRUCTURED.items():
            totals = data.setdefault(name, {})
            for key, value in metrics.parts(reported, structured).items():
                totals[key] = totals.get(key, 0.0) + value
    return {**data, "checkpointed": view.checkpointed}


def rounds_touched(snapshot: Snapshot, events: Iterable[Event]) -> list[RoundView]:
    """The rounds of a snapshot that the events, already folded in, may have changed."""
    numbers = {snapshot.rounds[-1].round} if snapshot.rounds else set()
    for event in events:
        kind = str(event.WhichOneof("payload"))
        if kind in _EVERYTHING:
            return list(snapshot.rounds)
        numbers.add(getattr(getattr(event, kind, None), "round", 0))
    return [view for view in snapshot.rounds if view.round in numbers]


def event_view(event: Event) -> Data:
    """What happened, without the numbers, which are in the round's figures."""
    kind = str(event.WhichOneof("payload") or "")
    payload: Message | None = getattr(event, kind, None)
    told: dict[str, Any] = MessageToDict(payload, preserving_proto_field_name=True) if payload else {}
    plain = {name: value for name, value in told.items() if not isinstance(value, dict)}
    return {**plain, "seq": event.seq, "time_unix_s": event.time_unix_s, "kind": kind}


def entry_view(entry: RunEntry) -> Data:
    """One line of the list of runs."""
    return {
        "run_id": entry.run_id,
        "state": run_state_name(entry.state),
        "round": entry.round,
        "rounds": entry.rounds,
        "workload": entry.workload,
        "reason": entry.reason,
    }


def board_view(entry: WorkerEntry) -> Data:
    """One worker's process and board, as its last heartbeat told."""
    return {
        "name": entry.name,
        "connected": entry.state != WorkerState.WORKER_STATE_LOST,
        "heartbeat_age_s": round(entry.heartbeat_age_s, 1),
        "cpu_s": round(entry.cpu_s, 1),
        "rss_bytes": entry.rss_bytes,
        "temperature_c": entry.temperature_c if entry.HasField("temperature_c") else None,
    }
