"""Codecs on the video workload: accuracy against bytes, with five workers, and the processor time of a 24 MB model.

Training is in this process, without a network; all that a codec touches is the real thing: updates are encoded as the
worker does it, error feedback in its state files included, and decoded, screened and averaged as the aggregator does
it. Bytes are those of the frames that would be on the wire, headers and reported numbers included, built by the same
code; a test compares them with a run of real processes. All figures are measured.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.codecs_federation.federation import Federation, Trained
from benchmarks.common import arguments, finish, must
from neurofed import codecs

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A codec with its settings.

    Attributes:
        name: of the row.
        codec: as `--codec` names it.
        settings: as `--set codec.KEY=VALUE` says them.
        long: whether it is trained for as many rounds as dense is, and not only for the first of them.
        counted: whether its allocation needs operations counted.
    """

    name: str
    codec: str
    settings: Mapping[str, str]
    long: bool = False
    counted: bool = False


DENSE = Case("dense", "dense", {}, long=True)
PROMISED = Case("top-k both ways", "top-k", {"down": "top-k"}, long=True)
CASES = (
    DENSE,
    PROMISED,
    Case("top-k up", "top-k", {}),
    Case("top-k up, uniform k", "top-k", {"allocation": "uniform"}),
    Case("top-k up, k by activity", "top-k", {"allocation": "activity"}, counted=True),
    Case("top-k up, no turns", "top-k", {"turns": "false", "fraction": "0.0175"}),
    Case("top-k up, no feedback", "top-k", {"feedback": "0"}),
    Case("fp16 both ways", "fp16", {"down": "fp16"}),
    Case("int8 both ways", "int8", {"down": "int8"}),
    Case("low-rank both ways", "low-rank", {"down": "low-rank"}),
)
UP, DOWN, LOST = 100.0, 16.0, 0.005


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        preset: of the workload.
        cases: codecs.
        seeds: of data, network and run.
        rounds: of each long training.
        every: after so many rounds models are evaluated; the rounds of the other trainings.
        values: parameters of the model that is timed.
    """

    preset: str
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    rounds: int
    every: int
    values: int


FULL = Scale("small", CASES, (0, 1, 2), 40, 10, 6 << 20)
QUICK = Scale("tiny", CASES, (0,), 2, 2, 1 << 20)


def train(scale: Scale, case: Case, seed: int) -> Row:
    """One training."""
    import torch

    torch.set_num_threads(1)
    began_s = time.process_time()
    rounds = scale.rounds if case.long else scale.every
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(scale.preset, case.codec, case.settings, seed, Path(folder), case.counted)
        done: Trained = federation.run(rounds, scale.every)
    row = {
        "codec": case.name,
        "seed": seed,
        "rounds": rounds,
        "accuracy": done.accuracies[rounds],
        "accuracy_by_round": dict(done.accuracies),
        "bytes_up": done.bytes_up,
        "bytes_down": done.bytes_down,
        "cpu_s": time.process_time() - began_s,
    }
    print(row, file=sys.stderr, flush=True)
    return row


def summary(cases: Sequence[Case], rows: Sequence[Row]) -> list[Row]:
    """Means over the seeds, against dense after as many rounds."""
    found = []
    dense = {row["seed"]: row for row in rows if row["codec"] == DENSE.name}
    for case in cases:
        for number in sorted({n for row in rows if row["codec"] == case.name for n in row["accuracy_by_round"]}):
            mine = [row for row in rows if row["codec"] == case.name]
            lost = [dense[r["seed"]]["accuracy_by_round"][number] - r["accuracy_by_round"][number] for r in mine]
            found.append(
                {
                    "codec": case.name,
                    "seeds": len(mine),
                    "rounds": number,
                    "accuracy": statistics.mean(row["accuracy_by_round"][number] for row in mine),
                    "less_than_dense": statistics.mean(lost),
                    "times_less_up": _ratio("bytes_up", mine, dense),
                    "times_less_down": _ratio("bytes_down", mine, dense),
                }
            )
    return found


def _ratio(direction: str, rows: Sequence[Row], dense: Mapping[int, Row]) -> float:
    """Bytes of a round, dense over others; those of the first round are among them."""
    found = [dense[r["seed"]][direction] / dense[r["seed"]]["rounds"] / (r[direction] / r["rounds"]) for r in rows]
    return float(statistics.mean(found))


def timing(values: int) -> list[Row]:
    """Processor time of writing and of reading a change, by codec: medians of five."""
    rng = np.random.default_rng(0)
    model = {f"w{n}": np.zeros((1024, values // 4096), np.float32) for n in range(4)}
    change = {name: rng.standard_normal(array.shape, np.float32) for name, array in model.items()}
    rows = []
    for name in codecs.NAMES:
        codec = codecs.choose(name, {}, workers=5).up
        written, read = [], []
        for number in range(5):
            began_s = time.process_time()
            body = codecs.write(codec, change, number, codecs.Context((number,))).body
            between_s = time.process_time()
            codecs.read(codec, body, model, number)
            written.append(between_s - began_s)
            read.append(time.process_time() - between_s)
        rows.append(
            {
                "codec": name,
                "model_bytes": 4 * values,
                "bytes": body.size,
                "encode_cpu_s": statistics.median(written),
                "decode_cpu_s": statistics.median(read),
            }
        )
    return rows


def musts(rows: Sequence[Row], times: Sequence[Row], quick: bool) -> list[Row]:
    """What was promised; a quick run learns too little to say anything of accuracy."""
    promised = [row for row in rows if row["codec"] == PROMISED.name][-1]
    slowest = max(max(row["encode_cpu_s"], row["decode_cpu_s"]) for row in times)
    found = [must("slowest codec, CPU s to encode or decode", slowest, "<=", 1.0)]
    if quick:
        return found
    return [
        must("upload, times less than dense", promised["times_less_up"], ">=", UP),
        must("download, times less than dense", promised["times_less_down"], ">=", DOWN),
        must("accuracy less than dense, mean of seeds", promised["less_than_dense"], "<=", LOST),
        *found,
    ]


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    times = timing(scale.values)
    jobs = [(scale, case, seed) for case in scale.cases for seed in scale.seeds]
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, len(jobs))) as pool:
        rows = pool.starmap(train, jobs, chunksize=1)
    means = summary(scale.cases, rows)
    finish("codecs", options, scale.seeds, [*rows, *means, *times], musts(means, times, options.quick))


if __name__ == "__main__":
    main()
