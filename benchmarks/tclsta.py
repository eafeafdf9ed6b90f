"""TCLSTA federated: both streams against each, every ablation, bounds, and real event recordings.

Rounds are those of `neurofed run` without its network: the workers' trainers and the aggregator's rule, in one process,
so that ablations of the last stage can share the stages before it. Every unit of work that is done is kept in a file
beside the results (`--keep`), and a benchmark that was stopped goes on after it. Accuracy is on the test clips.
"""

from __future__ import annotations

import json
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import finish, must, parser
from neurofed import metrics, spec
from neurofed.files import write_atomically
from neurofed.v1.control_pb2 import RunSpec
from server.aggregation.base import Update
from server.aggregation.fedavg import FEDAVG
from worker.trainer import Arrays, Trainer
from workloads.parameters import load_state, state_arrays
from workloads.tclsta import WORKLOAD
from workloads.tclsta.host import HOST_MACS
from workloads.tclsta.stages import stage_of
from workloads.tclsta.task import Tclsta, parts

SEEDS = (0, 1, 2)
WORKERS = 5
ABLATIONS = ("global", "per-class", "co-attention", "both")
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "mean pooling": {"weighted_pool": "false"},
    "attention over frames, no LSTM": {"temporal": "attention"},
    "membranes reset": {"carry_state": "false"},
    "membranes reset, no LSTM": {"carry_state": "false", "temporal": "attention"},
    "all heads from the first round": {"schedule": "together"},
}
"""Settings that differ from the preset, by the row's name; the fusion is the preset's."""

Settings = Mapping[str, str]
Row = dict[str, Any]


def quiet(_done: int, _steps: int, _numbers: Mapping[str, float]) -> None:
    """Nobody watches."""


class Federation:
    """A run in this process.

    Args:
        preset: of the workload.
        seed: of the run.
        settings: what differs from the preset.
        workers: into how many parts the training clips are divided.
    """

    def __init__(
        self, preset: str, seed: int, settings: Settings, workers: int = WORKERS, *, trace: bool = False
    ) -> None:
        run = spec.default_spec()
        run.MergeFrom(RunSpec(workload="tclsta", preset=preset, seed=seed, settings=dict(settings)))
        run.trace = trace
        self.trainer, self.workers = Trainer(spec.to_run_config(run), run.chip), workers
        self.task = Tclsta(WORKLOAD.settings(preset, settings), seed)
        self.model = self.task.build_model()
        self.task.calibrate(self.model)

    @property
    def initial(self) -> Arrays:
        """The calibrated initial model, whatever was loaded since."""
        model = self.task.build_model()
        self.task.calibrate(model)
        return state_arrays(model)

    def round(self, arrays: Arrays, number: int) -> Arrays:
        """One round of all workers."""
        state = FEDAVG.init(arrays, self.workers)
        for part in range(self.workers):
            result = self.trainer.train(arrays, part, self.workers, number, quiet)
            update = Update(result.arrays, int(result.numbers[metrics.NUM_EXAMPLES]))
            state = FEDAVG.add(state, update)
        return dict(FEDAVG.finish(state))

    def train(self, arrays: Arrays, first: int = 1, last: int | None = None) -> Arrays:
        """Rounds `first` to `last`, or to the preset's."""
        for number in range(first, (last or self.task.settings.rounds) + 1):
            arrays = self.round(arrays, number)
        return arrays

    def scores(self, arrays: Arrays) -> Row:
        """Accuracies of the verdict and of both streams, and of the static stream between order pairs."""
        load_state(self.model, arrays)
        scores = self.task.evaluate(self.model)
        row = {"accuracy": scores[metrics.ACCURACY]}
        row |= {name: scores[f"{metrics.ACCURACY}/{name}"] for name in ("static", "motion")}
        if self.task.settings.data.startswith("actions"):
            row["order_pairs_static"] = self._order_pairs()
        return row

    def _order_pairs(self) -> float:
        """How often the static stream prefers the true class to the one with the same frames in the other order."""
        right = []
        self.model.eval()
        for batch in self.task.test_batches():
            probability = parts(self.model, batch.inputs)["static"].detach()
            ahead = probability.gather(1, batch.targets[:, None]) - probability.gather(1, (batch.targets ^ 1)[:, None])
            right.append(((ahead > 0).float() + 0.5 * (ahead == 0).float()).mean().item())
        return statistics.mean(right)


@dataclass
class Ledger:
    """What is done so far, kept in a file."""

    path: Path | None
    rows: list[Row]

    @classmethod
    def open(cls, path: Path | None) -> Ledger:
        """The rows of an earlier, stopped benchmark, or none."""
        return cls(path, json.loads(path.read_text()) if path and path.exists() else [])

    def once(self, key: Row, work: Callable[[], Row]) -> Row:
        """The row of `key`, worked out now if it is not there."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        began_s = time.process_time()
        row = {**key, **work(), "cpu_s": time.process_time() - began_s}
        self.rows.append(row)
        print("done:", row, flush=True)
        if self.path:
            write_atomically(self.path, json.dumps(self.rows, indent=1).encode())
        return row


def main_table(ledger: Ledger, preset: str, seed: int, shared: Settings) -> None:
    """Two streams, each stream, and the ablations of the collaboration, which share the stages before it."""
    base = Federation(preset, seed, {**shared, "collaboration": "fixed"})
    settings = base.task.settings
    joined = settings.spatial_rounds + settings.temporal_rounds + settings.joint_rounds
    names = [("fixed 0.5 / 0.5", "fixed"), *((f"fusion: {kind}", kind) for kind in ABLATIONS)]
    if all(any(r["variant"] == name and r["seed"] == seed for r in ledger.rows) for name, _ in names):
        return
    streams = base.train(base.initial, last=joined)
    ledger.once({"variant": "fixed 0.5 / 0.5", "seed": seed}, lambda: base.scores(base.train(streams, joined + 1)))
    for kind in ABLATIONS:

        def branch(kind: str = kind) -> Row:
            federation = Federation(preset, seed, {**shared, "collaboration": kind})
            return federation.scores(federation.train({**federation.initial, **streams}, joined + 1))

        ledger.once({"variant": f"fusion: {kind}", "seed": seed}, branch)


def whole_run(preset: str, seed: int, settings: Settings, workers: int = WORKERS) -> Row:
    """One run from its first round to its last."""
    federation = Federation(preset, seed, settings, workers)
    return federation.scores(federation.train(federation.initial))


def local_only(preset: str, seed: int, settings: Settings) -> Row:
    """Each worker alone, with as many passes over its own clips as in the federation; means over workers."""
    federation = Federation(preset, seed, settings)
    rows = []
    for part in range(WORKERS):
        arrays = federation.initial
        for number in range(1, federation.task.settings.rounds + 1):
            arrays = federation.trainer.train(arrays, part, WORKERS, number, quiet).arrays
        rows.append(federation.scores(arrays))
    return {name: statistics.mean(row[name] for row in rows) for name in rows[0]}


def bills(preset: str) -> Row:
    """What a clip costs in each stage: the core group's energy, modelled, and the host's products, counted."""
    federation = Federation(preset, 0, {}, trace=True)
    settings, arrays, row = federation.task.settings, federation.initial, Row()
    load_state(federation.model, arrays)
    macs = federation.task.evaluate(federation.model)
    for number in range(1, settings.rounds + 1):
        stage = stage_of(settings, number).value
        if f"chip_uj_a_clip_modelled/{stage}" not in row:
            numbers = federation.trainer.train(arrays, 0, WORKERS, number, quiet, 0.05).numbers
            clips = numbers[metrics.STEPS] * settings.batch_size
            row[f"chip_uj_a_clip_modelled/{stage}"] = 1e6 * numbers[metrics.ENERGY_J] / clips
            row[f"host_macs_a_clip_counted/{stage}"] = macs[f"{HOST_MACS}/{stage}"]
    return row


def round_wall(preset: str) -> Row:
    """Wall time of one round of five workers, one after the other in this process, in the dearest stage."""
    federation = Federation(preset, 0, {}, trace=True)
    joint = federation.task.settings.spatial_rounds + federation.task.settings.temporal_rounds + 1
    arrays, began_s = federation.initial, time.perf_counter()
    federation.round(arrays, joint)
    return {"round_wall_s": time.perf_counter() - began_s}


def recordings(ledger: Ledger, archive: Path, seeds: Sequence[int], shared: Settings) -> None:
    """Real N-MNIST recordings in five folds, by the layout in which the set is published."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with tarfile.open(archive) as tar:
            tar.extractall(base / "all", filter="data")
        lines = (base / "all" / "train1K.txt").read_text().splitlines()
        listed = [tuple(map(int, line.split())) for line in lines if not line.startswith("#")]
        for fold in seeds:
            root = base / f"fold{fold}"
            for n, (number, digit) in enumerate(listed):
                place = root / ("Test" if n % 5 == fold else "Train") / str(digit) / f"{number:05}.bs2"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.hardlink_to(base / "all" / f"{number}.bs2")
            settings = {**shared, "folder": str(root)}
            runs: list[tuple[str, Settings, int]] = [
                ("N-MNIST central", {}, 1),
                ("N-MNIST, 5 workers IID", {}, WORKERS),
                ("N-MNIST, 5 workers Dirichlet 0.5", {"partition": "dirichlet", "alpha": "0.5"}, WORKERS),
            ]
            for name, extra, workers in runs:

                def work(extra: Settings = extra, workers: int = workers, settings: Settings = settings) -> Row:
                    return whole_run("nmnist", 0, {**settings, **extra}, workers)

                ledger.once({"variant": name, "seed": fold}, work)


def mean_of(rows: Sequence[Row], variant: str, name: str = "accuracy") -> float | None:
    """Mean over seeds of a variant's number, or None where it was not measured."""
    values = [row[name] for row in rows if row["variant"] == variant and name in row]
    return statistics.mean(values) if values else None


def gap(a: float | None, b: float | None) -> float | None:
    """The difference a - b, where both were measured."""
    return None if a is None or b is None else a - b


def promises(rows: Sequence[Row]) -> list[Row]:
    """The numbers that were promised."""
    both = "fusion: both"
    single = [mean_of(rows, "fixed 0.5 / 0.5", stream) for stream in ("static", "motion")]
    best = max((value for value in single if value is not None), default=None)
    central, iid = mean_of(rows, "N-MNIST central"), mean_of(rows, "N-MNIST, 5 workers IID")
    blind = mean_of(rows, "membranes reset, no LSTM", "order_pairs_static")
    return [
        must("12 classes, both streams with co-attention and a weight for each class", mean_of(rows, both), ">=", 0.80),
        must("the same minus the best single stream of as many rounds", gap(mean_of(rows, both), best), ">=", 0.05),
        must("24 classes", mean_of(rows, "24 classes"), ">=", 0.60),
        must("order pairs, carried", mean_of(rows, "attention over frames, no LSTM", "order_pairs_static"), ">=", 0.90),
        must("order pairs, reset: distance from chance", None if blind is None else abs(blind - 0.5), "<=", 0.05),
        must("N-MNIST central", central, ">=", 0.90),
        must("N-MNIST central minus 5 workers IID", gap(central, iid), "<=", 0.03),
        must("one round of 5 workers, s", mean_of(rows, "one round", "round_wall_s"), "<=", 12.0),
    ]


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean and spread over seeds of each variant."""
    table = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        line: Row = {"variant": variant, "seeds": len(mine)}
        for name in (key for key in mine[0] if key not in ("variant", "seed", "cpu_s")):
            values = [row[name] for row in mine]
            line[name] = statistics.mean(values)
            if len(values) > 1:
                line[f"{name}_spread"] = float(np.std(values, ddof=1))
        table.append({**line, "cpu_s": sum(row["cpu_s"] for row in mine)})
    return table


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--keep", type=Path, help="file of what is done, from which a stopped benchmark goes on")
    options.add_argument("--only-main", action="store_true", help="the main table and nothing else")
    given = options.parse_args()
    ledger = Ledger.open(given.keep)
    preset, seeds = ("tiny", SEEDS[:1]) if given.quick else ("small", SEEDS)
    shared: Settings = {}
    for seed in seeds:
        main_table(ledger, preset, seed, shared)
    if not given.only_main:
        ledger.once({"variant": "bills", "seed": 0}, lambda: bills(preset))
        ledger.once({"variant": "one round", "seed": 0}, lambda: round_wall(preset))
        for seed in seeds:
            others(ledger, preset, seed, given.quick)
        archive = Path(os.environ.get("NEUROFED_DATA", "../shared/data")) / "video" / "nmnist_small" / "train.tar.gz"
        if archive.is_file():
            folds, short = (range(1), {"rounds": "1", "frames": "2"}) if given.quick else (range(5), {})
            recordings(ledger, archive, folds, short)
        else:
            print(f"no recordings: {archive} is not there; set NEUROFED_DATA")
    finish("tclsta", given, seeds, summary(ledger.rows), promises(ledger.rows))


def others(ledger: Ledger, preset: str, seed: int, quick: bool) -> None:
    """Whole runs with another setting, bounds, and the second tier."""
    for name, extra in VARIANTS.items():

        def variant(extra: Settings = extra) -> Row:
            return whole_run(preset, seed, extra)

        ledger.once({"variant": name, "seed": seed}, variant)
    ledger.once({"variant": "central, one worker with all clips", "seed": seed}, lambda: whole_run(preset, seed, {}, 1))
    ledger.once({"variant": "local only, mean of 5", "seed": seed}, lambda: local_only(preset, seed, {}))
    tier = (preset, {"data": "actions24"}) if quick else ("actions24", {})
    ledger.once({"variant": "24 classes", "seed": seed}, lambda: whole_run(tier[0], seed, tier[1]))


if __name__ == "__main__":
    main()
