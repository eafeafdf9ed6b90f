"""Attacks x aggregation rules: accuracy of a spiking network on scikit-learn's digits when a fifth of the workers lies.

All of it is real training, in one process: a spiking hidden layer on the engines, equal and shuffled parts of 1437
images, one local epoch a round, 360 images to test with, means over the seeds. Rules get the updates as they are,
without the admission that refuses what is absurdly long, so the aggregator itself is safer than this table. Rules
that average as FedAvg does, or step along its mean as FedAdam does, are left out.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.aggregation_attacks.attacks import ATTACKS
from benchmarks.aggregation_attacks.digits import Federation
from benchmarks.common import arguments, finish, must
from server.aggregation import rule

Row = dict[str, Any]

DEFAULT = "norm-clipping"
PROMISED = ("ipm", "ipm-10", "alie", "min-max", "nan")
SHARE = 0.2
RULES = (
    "fedavg",
    "fedadam",
    DEFAULT,
    "centred-clipping",
    "geometric-median",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "bulyan",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        workers: sizes of the federation.
        rules: their names.
        attacks: their names.
        seeds: of data, network and noise.
        rounds: of each training.
    """

    workers: tuple[int, ...]
    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: tuple[int, ...]
    rounds: int


FULL = Scale((10, 20), RULES, tuple(ATTACKS), (0, 1, 2), 8)
QUICK = Scale((10,), ("fedavg", DEFAULT), ("none", "ipm-10", "min-max", "nan"), (0,), 4)


def settings(name: str, workers: int) -> dict[str, object]:
    """The share of attackers that a rule is told to withstand, as far as it is defined."""
    if name == "bulyan" and workers < 4 * SHARE * workers + 3:
        return {"attackers": (workers - 3) // 4 / workers}
    return {"attackers": SHARE} if name in ("trimmed-mean", "krum", "multi-krum", "bulyan") else {}


def accuracies(scale: Scale, workers: int, name: str) -> Row:
    """The row of a rule: mean accuracy by attack."""
    torch.set_num_threads(1)
    liars = round(SHARE * workers)
    federations = [Federation(workers, liars, seed) for seed in scale.seeds]
    row: Row = {"workers": workers, "attackers": liars, "rule": name}
    for attack in scale.attacks:
        strategy = rule(name, settings(name, workers))
        row[attack] = statistics.mean(f.run(strategy, attack, scale.rounds) for f in federations)
    print(row, file=sys.stderr, flush=True)
    return row


def best_rules(rows: Sequence[Row], attacks: Sequence[str]) -> list[Row]:
    """Which rule withstands each attack best, by size of the federation, and how well compared with no attack."""
    found = []
    for workers in sorted({row["workers"] for row in rows}):
        ours = [row for row in rows if row["workers"] == workers]
        for attack in attacks:
            best = max(ours, key=lambda row: float(row[attack]))
            share = best[attack] / _unattacked(ours)
            found.append(
                {"workers": workers, "attack": attack, "best_rule": best["rule"], "share_of_unattacked": share}
            )
    return found


def _unattacked(rows: Sequence[Mapping[str, Any]]) -> float:
    return float(next(row["none"] for row in rows if row["rule"] == "fedavg"))


def musts(rows: Sequence[Row], attacks: Sequence[str]) -> list[Row]:
    """The default defence under each attack, as a share of the plain mean's accuracy without one."""
    found = []
    for row in rows:
        if row["rule"] == DEFAULT:
            base = _unattacked([other for other in rows if other["workers"] == row["workers"]])
            for attack in attacks:
                if attack in PROMISED:
                    name = f"{DEFAULT}_{attack}_of_{row['workers']}_share_of_unattacked"
                    found.append(must(name, row[attack] / base, ">=", 0.9))
    return found


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    jobs = [(scale, workers, name) for workers in scale.workers for name in scale.rules]
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, len(jobs))) as pool:
        rows = pool.starmap(accuracies, jobs, chunksize=1)
    best = best_rules(rows, scale.attacks)
    finish("byzantine", options, scale.seeds, [*rows, *best], musts(rows, scale.attacks), ("scikit-learn",))


if __name__ == "__main__":
    main()
