"""One bad worker among good ones: the round completes, somebody is told, the model is as if it had not been there."""

from __future__ import annotations

from typing import Any

from benchmarks.fleet import liar
from benchmarks.fleet.kills import undisturbed
from benchmarks.fleet.liar import KINDS, LATE, LATE_S
from benchmarks.fleet.processes import Fleet, stub_run
from neurofed.v1.control_pb2 import RunSpec

_NAME = "worker-9"
"""The last by name, so that the good ones have the same parts of the data with it and without."""


def _run(fleet: Fleet) -> RunSpec:
    run = stub_run(len(fleet.workers) + 1, 2)
    run.min_workers, run.join_timeout_s = len(fleet.workers), 3.0
    run.round_timeout_s = LATE_S * 2 / 3
    return run


def lies(fleet: Fleet, kinds: tuple[str, ...] = KINDS) -> list[dict[str, Any]]:
    """One row for each kind of lie; `met` where round, word and model are right."""
    undisturbed(fleet, "warm", stub_run(len(fleet.workers), 1))  # the first round of a process imports what it needs
    without = undisturbed(fleet, "without", _run(fleet)).digests
    rows = []
    for kind in kinds:
        digests = _digests(fleet, kind)
        equal = digests == without
        quarantined = [e.body["reason"] for e in fleet.events(_id(kind), "worker_quarantined")]
        refused = [e.body["reason"] for e in fleet.events(_id(kind), "result_rejected")]
        # Whoever is late is slow, not bad: its result is refused, and it gets the next task.
        told = refused if kind == LATE else quarantined
        rows.append(
            {
                "lie": kind,
                "completed": bool(digests),
                "quarantined": bool(quarantined),
                "equal": equal,
                "reason": (told or [None])[0],
                "met": bool(digests) and equal and bool(told),
            }
        )
    return rows


def _digests(fleet: Fleet, kind: str) -> list[str]:
    with fleet.guest(liar.__name__, fleet.address, _NAME, kind):
        fleet.submit(_id(kind), _run(fleet))
        return fleet.finish(_id(kind))


def _id(kind: str) -> str:
    return f"lie-{kind.replace(' ', '-')}"
