"""One training step of three spiking nets: against SpikingJelly, snnTorch, Norse and Sinabs, and against float64.

Steps of all contestants are interleaved; what is compared is processor time, ratios round by round. Idle threads of
OpenMP sleep, for all alike: spinning, they would count as work. `pip install -e
".[bench]"` brings the libraries; those that are absent take no part, and what would need them is null.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch loads

import torch

from benchmarks.common import arguments, finish, must
from benchmarks.snn import accuracy, contestants, gradients, memory, timing
from benchmarks.snn.nets import NETS, Net, batch
from benchmarks.snn.ours import UNCOUNTED, VARIANTS, Variant
from benchmarks.snn.peers import LIBRARIES, present
from benchmarks.snn.trainers import Activity

THREADS = 2
WEIGHT, BATCH = Variant("weight", "fp16"), Variant("batch", "fp16")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        nets: the nets whose steps are timed.
        variants: which of ours are timed.
        probed: how many of the nets have their memory measured and their gradients compared.
        measured: contestants whose memory is measured; None for all.
        rounds: rounds of timing.
        passes: steps of each contestant in a round.
        seeds: repetitions of what is trained.
        learning_rates: for the digits, each contestant's to be chosen.
        digits: digits to train with and to test on.
        video: preset and rounds of the video workload.
    """

    nets: tuple[Net, ...]
    variants: tuple[Variant, ...]
    probed: int
    measured: tuple[str, ...] | None
    rounds: int
    passes: int
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    digits: tuple[int, int]
    video: tuple[str, int]


FULL = Scale(
    nets=NETS,
    variants=(*VARIANTS, UNCOUNTED),
    probed=3,
    measured=None,
    rounds=7,
    passes=2,
    seeds=(0, 1, 2),
    learning_rates=accuracy.RATES,
    digits=(8000, 2000),
    video=("small", 3),
)
QUICK = Scale(
    nets=tuple(replace(net, batch=2, steps=2, side=8 if net.constant else 32) for net in NETS),
    variants=(WEIGHT, BATCH, UNCOUNTED),
    probed=1,
    measured=(LIBRARIES[0], str(WEIGHT)),
    rounds=1,
    passes=1,
    seeds=(0,),
    learning_rates=accuracy.RATES[1:2],
    digits=(64, 250),
    video=("tiny", 1),
)
_GRADIENT_BATCH = 4


def measure_steps(net: Net, scale: Scale) -> list[Row]:
    """Time and activity of each contestant's step, one row each."""
    inputs, targets = batch(net)
    trainers = {name: contestants.trainer(name, net) for name in contestants.names(scale.variants)}
    timings = timing.interleaved(trainers, inputs, targets, rounds=scale.rounds, passes=scale.passes)
    load = timing.load()
    return [
        {
            "net": net.name,
            "contestant": name,
            **timings[name].row(),
            "times_faster_than": {
                o: round(timing.ratio(timings[o], timings[name]), 3) for o in (*present(), str(UNCOUNTED))
            },
            **_activity(trainer.observe(inputs, targets)),
            "load_average": load,
        }
        for name, trainer in trainers.items()
    ]


def _activity(activity: Activity) -> Row:
    """Rates and densities in the order of the layers."""
    return {
        "highest_rate": max(activity.rates.values()),
        "rates": [round(rate, 4) for rate in activity.rates.values()],
        "gradient_densities": [round(density, 4) for density in activity.densities.values()],
    }


def step_musts(rows: Iterable[Row]) -> list[Row]:
    """What is promised of the step of a net whose rows these are."""
    by_name = {row["contestant"]: row for row in rows}
    found = []
    for variant, limit in ((WEIGHT, 3.0), (BATCH, 2.2)):
        row = by_name[str(variant)]
        ratios = {other: times for other, times in row["times_faster_than"].items() if other in LIBRARIES}
        least = min(ratios.values()) if ratios.keys() == set(LIBRARIES) else None
        name = f"{row['net']}: {variant}"
        found.append(must(f"{name}, times faster than the fastest library", least, ">=", limit))
        found.append(must(f"{name}, highest firing rate of a layer", row["highest_rate"], "<=", 0.10))
    counted = by_name[str(WEIGHT)]
    share = 1 / counted["times_faster_than"][str(UNCOUNTED)]
    found.append(must(f"{counted['net']}: {WEIGHT}, step with counting over step without", share, "<=", 1.05))
    return found


def measure_memory(net: Net, scale: Scale) -> list[Row]:
    """Peak memory of each contestant's step, one row each."""
    rows = []
    for name in contestants.names(v for v in scale.variants if v.counting):
        if scale.measured is None or name in scale.measured:
            with contestants.saved(contestants.trainer(name, net)) as parameters:
                rows.append({"net": net.name, "contestant": name, "peak_mb": memory.peak_mb(name, net, parameters)})
    return rows


def memory_must(rows: Iterable[Row]) -> Row:
    """What is promised of the memory of a net whose rows these are."""
    rows = list(rows)
    peaks = {row["contestant"]: row["peak_mb"] for row in rows}
    complete = set(LIBRARIES) <= peaks.keys()
    share = peaks[str(WEIGHT)] / min(peaks[library] for library in LIBRARIES) if complete else None
    return must(f"{rows[0]['net']}: {WEIGHT}, peak memory over the leanest library's", share, "<=", 1 / 3)


def measure_gradients(net: Net) -> list[Row]:
    """The worst error of each of our variants, one row each."""
    rows = []
    for variant in VARIANTS:
        error, where = gradients.worst_error(replace(net, batch=_GRADIENT_BATCH), variant)
        rows.append({"net": net.name, "contestant": str(variant), "gradient_error": error, "at": where})
    return rows


def gradient_musts(rows: Iterable[Row]) -> list[Row]:
    """What is promised of the gradients."""
    worst = {"fp16": 0.0, "fp32": 0.0}
    for row in rows:
        precision = "fp16" if "fp16" in row["contestant"] else "fp32"
        worst[precision] = max(worst[precision], row["gradient_error"])
    limits = {"fp16": 2e-3, "fp32": 1e-5}
    return [must(f"gradients against float64, {p}", worst[p], "<=", limit) for p, limit in limits.items()]


def measure_accuracy(scale: Scale) -> tuple[list[Row], list[Row]]:
    """Rows and promises of the two comparisons after training."""
    train, test = scale.digits
    preset, rounds = scale.video
    digits: dict[str, list[float]] = {}
    rates: dict[str, float] = {}
    if accuracy.digits_folder().exists():
        names = (accuracy.OURS, *(["SpikingJelly"] if "SpikingJelly" in present() else []))
        rates = {name: accuracy.choose_rate(name, train=train, rates=scale.learning_rates) for name in names}
        digits = {
            n: [accuracy.train_digits(n, seed, lr, train=train, test=test) for seed in scale.seeds]
            for n, lr in rates.items()
        }
    video: dict[str, list[float]] = {
        "weight": [accuracy.train_video("weight", seed, preset=preset, rounds=rounds) for seed in scale.seeds],
        "batch": [accuracy.train_video("batch", seed, preset=preset, rounds=rounds) for seed in scale.seeds],
    }
    rows: list[Row] = [
        {"task": "digits 28x28", "contestant": name, "accuracies": found, "learning_rate": rates[name]}
        for name, found in digits.items()
    ]
    rows += [{"task": "video", "contestant": f"norm {name}", "accuracies": found} for name, found in video.items()]
    peer = _difference(digits, accuracy.OURS, "SpikingJelly")
    norm = _difference(video, "weight", "batch")
    return rows, [
        must("digits: accuracy less SpikingJelly's, mean of seeds", peer, ">=", -0.005),
        must("video: accuracy of weight standardisation less batch normalisation's, mean of seeds", norm, ">=", -0.01),
    ]


def _difference(found: Mapping[str, list[float]], name: str, other: str) -> float | None:
    return statistics.mean(found[name]) - statistics.mean(found[other]) if {name, other} <= found.keys() else None


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    torch.set_num_threads(THREADS)
    absent = [library for library in LIBRARIES if library not in present()]
    if absent:
        print(f'absent: {", ".join(absent)}; to compare with them: pip install -c constraints.txt -e ".[bench]"')
    rows: list[Row] = []
    musts: list[Row] = []
    for net in scale.nets:
        print(f"{net.name}: time", flush=True)
        rows += (steps := measure_steps(net, scale))
        for row in steps:
            print(f"  {row['contestant']}: {row['cpu_ms']:.0f} ms, {row['times_faster_than']}", flush=True)
        musts += step_musts(steps)
    checked: list[Row] = []
    for net in scale.nets[: scale.probed]:
        print(f"{net.name}: memory, gradients", flush=True)
        rows += (peaks := measure_memory(net, scale))
        musts.append(memory_must(peaks))
        checked += measure_gradients(net)
    print("accuracy", flush=True)
    trained, promised = measure_accuracy(scale)
    musts += [*gradient_musts(checked), *promised]
    finish("train_step", options, scale.seeds, [*rows, *checked, *trained], musts, list(present().values()))


if __name__ == "__main__":
    main()
