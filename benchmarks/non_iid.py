"""Unlike data x aggregation rules: accuracy of the video workload where workers see few classes, beside its bounds.

All of it is real training, in one process: each worker's part of the clips on an emulated chip, as `neurofed run` does
it, and the rule of the aggregator; only the network between them is left out, which changes no bit. Every variant makes
as many passes over the training clips as the others.

    centralised   the upper bound: one worker has all clips; its optimizer begins anew in each round, as everybody's
    local-only    the lower bound: each worker trains alone, nothing is sent; the mean over workers of their accuracy

Accuracy is on the test clips, of all classes, after the last round: the mean, and the least and the most of the seeds.
Rules have settings that were not searched for; another choice may do better. N-MNIST needs its recordings and is left
out. SCAFFOLD's proofs are for plain gradient steps, so there is a pair of rows with SGD (momentum 0.9) on the workers.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.common import arguments, finish
from neuro_engine.network import SpikingNetwork
from neurofed import metrics, spec
from neurofed.records import PROXIMAL_MU
from neurofed.v1.control_pb2 import RunSpec
from server.aggregation import rule
from server.aggregation.base import NOTHING, Memory, Model, Rule, Update
from worker.drift import Controlled, add_proximal_term
from worker.trainer import LocalResult, Trainer
from workloads import registry
from workloads.base import FederatedTask
from workloads.parameters import load_state, state_arrays

CENTRALISED, LOCAL = "centralised", "local-only"
PARTITIONS: Mapping[str, Mapping[str, str]] = {
    "iid": {"partition": "iid"},
    "dirichlet-0.5": {"partition": "dirichlet", "alpha": "0.5"},
    "dirichlet-0.1": {"partition": "dirichlet", "alpha": "0.1"},
    "two-classes": {"partition": "classes", "classes_per_worker": "2"},
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A rule with its settings, and how workers train where that is not the workload's own way, which is Adam."""

    rule: str
    settings: Mapping[str, float] = field(default_factory=dict)
    workload: Mapping[str, str] = field(default_factory=dict)


_SGD = {"optimizer": "sgd", "lr": "0.02"}
RULES: Mapping[str, Variant] = {
    "fedavg": Variant("fedavg"),
    "fedprox": Variant("fedprox", {"mu": 0.1}),
    "scaffold": Variant("scaffold"),
    "fedadam": Variant("fedadam", {"lr": 0.01}),
    "fedavg, sgd": Variant("fedavg", workload=_SGD),
    "scaffold, sgd": Variant("scaffold", workload=_SGD),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    preset: str
    workers: int
    rounds: int
    partitions: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


FULL = Scale("small", 6, 10, tuple(PARTITIONS), (0, 1, 2))
"""Six workers, so that twelve classes are two for each."""
QUICK = Scale("tiny", 3, 2, ("two-classes",), (0,), {"train_clips": "48", "test_clips": "24", "local_epochs": "1"})


def _ignore(_done: int, _steps: int, _numbers: Mapping[str, float]) -> None:
    """Where progress goes."""


class Federation:
    """Workers in this process.

    Args:
        scale: how much is measured.
        partition: one of `PARTITIONS`.
        seed: of everything.
        settings: of the workload, over those of scale and partition.
    """

    def __init__(
        self, scale: Scale, partition: str, seed: int, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.workers, self._rounds, self._seed = scale.workers, scale.rounds, seed
        run = spec.default_spec()
        run.MergeFrom(RunSpec(preset=scale.preset, workers=scale.workers, seed=seed))
        run.settings.update({**scale.settings, **PARTITIONS[partition], **settings})
        run.trace = False
        workload = registry.load(run.workload)
        self._task: FederatedTask = workload.prepare(workload.settings(run.preset, dict(run.settings)), seed)
        self._trainer = Trainer(spec.to_run_config(run), run.chip)

    @cached_property
    def initial(self) -> Model:
        """The calibrated initial model."""
        model = self._task.build_model()
        self._task.calibrate(model)
        return state_arrays(model)

    def accuracy(self, model: Model) -> float:
        """Accuracy on the test clips."""
        network = self._task.build_model()
        load_state(network, model)
        return self._task.evaluate(network)[metrics.ACCURACY]

    def alone(self, part: int, parts: int) -> float:
        """Accuracy of who trains on one part and never sends anything."""
        model = dict(self.initial)
        for number in range(1, self._rounds + 1):
            model = self._trainer.train(model, part, parts, number, _ignore).arrays
        return self.accuracy(model)

    def together(self, strategy: Rule[Any]) -> float:
        """Accuracy of the global model of a federation with one aggregation rule."""
        model, memory = self.initial, NOTHING
        kept: list[Mapping[str, Any]] = [{} for _ in range(self.workers)]
        for number in range(1, self._rounds + 1):
            state = strategy.init(model, self.workers, memory)
            sent = memory or strategy.memory(state)
            for part in range(self.workers):
                state = strategy.add(state, self._update(strategy, model, sent, kept, part, number))
            model, memory = strategy.finish(state), strategy.memory(state)
        return self.accuracy(model)

    def _update(
        self, strategy: Rule[Any], model: Model, memory: Memory, kept: list[Mapping[str, Any]], part: int, number: int
    ) -> Update:
        controlled = Controlled(memory, kept[part]) if strategy.sends_memory else None

        def prepare(network: SpikingNetwork, optimizer: torch.optim.Optimizer) -> None:
            if controlled:
                controlled.attach(network, optimizer)
            add_proximal_term(optimizer, strategy.client.get(PROXIMAL_MU, 0.0))

        result: LocalResult = self._trainer.train(dict(model), part, self.workers, number, _ignore, prepare=prepare)
        change: Model = {}
        if controlled:
            change, kept[part] = controlled.result()
        return Update(result.arrays, int(result.numbers[metrics.NUM_EXAMPLES]), change)


def accuracy(scale: Scale, partition: str, variant: str, seed: int) -> float:
    """Accuracy of one variant: a rule, or one of the bounds."""
    torch.set_num_threads(1)
    chosen = RULES.get(variant, Variant(""))
    federation = Federation(scale, partition, seed, chosen.workload)
    if variant == CENTRALISED:
        value = federation.alone(0, 1)
    elif variant == LOCAL:
        value = statistics.mean(federation.alone(part, scale.workers) for part in range(scale.workers))
    else:
        value = federation.together(rule(chosen.rule, dict(chosen.settings)))
    print(f"{partition} {variant} seed {seed}: {value:.3f}", file=sys.stderr, flush=True)
    return value


def variants(scale: Scale) -> list[tuple[str, str]]:
    """What is measured; how the data is divided is without effect on who has all of it."""
    rules = [(partition, name) for partition in scale.partitions for name in (*RULES, LOCAL)]
    return [(scale.partitions[0], CENTRALISED), *rules]


def table(wanted: Sequence[tuple[str, str]], values: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A row for each variant, of its accuracies by seed."""
    return [
        {
            "partition": "none" if name == CENTRALISED else partition,
            "variant": name,
            "settings": dict(RULES[name].settings) if name in RULES else {},
            "accuracy_measured": statistics.mean(found),
            "least": min(found),
            "most": max(found),
        }
        for (partition, name), found in zip(wanted, values, strict=True)
    ]


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    wanted = variants(scale)
    jobs = [(scale, *variant, seed) for variant in wanted for seed in scale.seeds]
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, len(jobs))) as pool:
        found = pool.starmap(accuracy, jobs, chunksize=1)
    seeds = len(scale.seeds)
    values = [found[start : start + seeds] for start in range(0, len(found), seeds)]
    finish("non_iid", options, scale.seeds, table(wanted, values), [])


if __name__ == "__main__":
    main()
