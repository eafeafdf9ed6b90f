"""A thousand rounds with twenty workers: does the aggregator's memory grow, does it leak threads or descriptors?

The workers send back what they got. Samples before the first tenth of the rounds do not count: caches are warming up.
One thing grows on purpose: what happened in each round, by worker, is kept for the views and the report. Its share is
measured apart, by folding the run's events in this process, so that a leak can be told from it.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must
from benchmarks.fleet import crowd, probe
from benchmarks.fleet.kills import undisturbed
from benchmarks.fleet.processes import Fleet, stub_run
from benchmarks.fleet.trend import slope
from neurofed.eventlog import fold_log

_MODEL_BYTES = 100_000
_INTERVAL_S = 0.1
_KIB = 1024

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """The aggregator at one moment."""

    round_number: int
    rss_bytes: int
    threads: int
    descriptors: int


def observe(fleet: Fleet, run_id: str) -> list[Sample]:
    """Samples of the aggregator until the run has ended."""
    pid = fleet.aggregator.pid
    samples = []
    while not fleet.is_finished(run_id):
        number = fleet.count(run_id, "checkpoint_written")
        samples.append(Sample(number, probe.rss_bytes(pid), probe.threads(pid), probe.descriptors(pid)))
        time.sleep(_INTERVAL_S)
    return samples


def history_kib(log: Path) -> float:
    """What a round adds to the history that an aggregator keeps of a run."""
    pid = os.getpid()
    before = probe.rss_bytes(pid)
    history = fold_log(log)
    taken = (probe.rss_bytes(pid) - before) / _KIB
    return taken / len(history.rounds)


def judge(samples: list[Sample], rounds: int, workers: int, history: float) -> tuple[list[Row], list[Row]]:
    """Rows and promises; `history` is what a round adds to the history, in KiB."""
    warm = [sample for sample in samples if sample.round_number >= rounds // 10]
    rss = slope([float(s.round_number) for s in warm], [s.rss_bytes / _KIB for s in warm])
    first, last = warm[0], warm[-1]
    row = {
        "rounds": rounds,
        "workers": workers,
        "samples": len(warm),
        "rss_mib_first": first.rss_bytes / _KIB**2,
        "rss_mib_last": last.rss_bytes / _KIB**2,
        "rss_kib_per_round": rss.value,
        "rss_kib_per_round_95": [rss.low, rss.high],
        "history_kib_per_round": history,
        "threads_first": first.threads,
        "threads_last": last.threads,
        "descriptors_first": first.descriptors,
        "descriptors_last": last.descriptors,
    }
    return [row], [
        must("growth of RSS by round, KiB, lower end of its 95 % interval", rss.low, "<=", 0.0),
        must("the same less what a round adds to the history, KiB", rss.low - history, "<=", 0.0),
        must("threads at the end less those after a tenth of the rounds", last.threads - first.threads, "<=", 0),
        must("descriptors at the end less those after a tenth", last.descriptors - first.descriptors, "<=", 0),
    ]


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    rounds, workers = (200, 10) if options.quick else (1000, 20)
    with (
        tempfile.TemporaryDirectory() as folder,
        Fleet(Path(folder), 0) as fleet,
        fleet.guest(crowd.__name__, fleet.address, str(workers)),
    ):
        undisturbed(fleet, "warm", stub_run(workers, 5, model_bytes=_MODEL_BYTES))
        fleet.submit("soak", stub_run(workers, rounds, model_bytes=_MODEL_BYTES))
        samples = observe(fleet, "soak")
        history = history_kib(fleet.runs / "soak" / "events.jsonl")
    rows, musts = judge(samples, rounds, workers, history)
    finish("soak", options, [0], rows, musts)


if __name__ == "__main__":
    main()
