"""Local training: one worker's part of a round on its core group.

Training is a pure function of the global model, the run's configuration, the round, the part of the data, and what is
done to the optimizer before the first step: it is fresh and nothing is remembered here, so a task done twice gives the
same bits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy.typing as npt
from torch.optim import Optimizer

from neuro_engine.chip import Chip, ChipError
from neuro_engine.core_group import CoreGroup
from neuro_engine.cost import Cost
from neuro_engine.network import SpikingNetwork
from neuro_engine.trace import Engine, TensorClass, Trace
from neurofed import metrics, spec
from neurofed.errors import ConfigError, UnknownChipError
from worker.cores import core_busy
from workloads import registry
from workloads.base import FederatedTask
from workloads.parameters import load_state, state_arrays
from workloads.personal import personal_names

Report = Callable[[int, int, Mapping[str, float]], None]
"""Told (steps done, steps, current metrics) after each step; may raise to abandon the task."""
Arrays = dict[str, npt.NDArray[Any]]
Prepare = Callable[[SpikingNetwork, Optimizer], object]
"""Given the network, as the global model has it, and its fresh optimizer before the first step; see `worker.drift`."""


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What comes of a worker's round.

    Attributes:
        arrays: the model, without its personal parts.
        numbers: what is reported, named as in `neurofed.metrics`.
        personal: the personal parts, which the worker keeps for its next round.
    """

    arrays: Arrays
    numbers: dict[str, float | int]
    personal: Arrays = field(default_factory=dict)


class Trainer:
    """Trains one run's model on this worker's core group; made once per run.

    Args:
        config: the run's configuration, as `neurofed.spec.to_run_config` writes it.
        chip_name: the chip of this worker, where the run does not name one.

    Attributes:
        initial: the personal parts as they are before the first round; empty where the whole model is shared.

    Raises:
        ConfigError: if workload, preset, setting or chip is unknown here.
    """

    def __init__(self, config: Mapping[str, Any], chip_name: str) -> None:
        run = spec.from_run_config(config)
        workload = registry.load(run.workload)
        self._task: FederatedTask = workload.prepare(workload.settings(run.preset, dict(run.settings)), run.seed)
        network = self._task.build_model()
        if not isinstance(network, SpikingNetwork):
            raise ConfigError(f"workload {run.workload!r}: expected a SpikingNetwork, got {type(network).__name__}")
        self.initial: Arrays = {}
        if names := personal_names(self._task, network):
            self._task.calibrate(network)
            self.initial = {name: array for name, array in state_arrays(network).items() if name in names}
        self._group = CoreGroup(
            network, load_chip(run.chip or chip_name), tracing=run.trace, precision=self._task.precision
        )

    def shared(self) -> Arrays:
        """The initial parameters, before anything was calibrated, without the personal parts."""
        whole = state_arrays(self._task.build_model())
        return {name: array for name, array in whole.items() if name not in self.initial}

    def train(
        self,
        arrays: Arrays,
        part: int,
        parts: int,
        round_number: int,
        report: Report,
        work: float = 1.0,
        prepare: Prepare = lambda _network, _optimizer: None,
        personal: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    ) -> LocalResult:
        """Train the global model `arrays` on part `part` of `parts`.

        Args:
            arrays: the global model, by name, without its personal parts.
            part: which part of the training data, from 0.
            parts: into how many parts it is divided.
            round_number: the federated round, from 1.
            report: told after each step.
            work: the fraction of the round's steps to do, in (0, 1]; a part of a step counts as one.
            prepare: called once before the first step.
            personal: the personal parts as an earlier round left them.

        Returns:
            The local model, the numbers reported with it, and what the worker keeps.
        """
        began_s = time.perf_counter()
        network, task = self._group.network, self._task
        load_state(network, {**self.initial, **personal, **arrays})
        network.train()
        self._group.reset()
        optimizer = task.optimizer(network)
        prepare(network, optimizer)
        batches = [b for epoch in range(task.epochs) for b in task.train_batches(part, parts, round_number, epoch)]
        del batches[max(1, math.ceil(work * len(batches))) :]
        tally = _Tally()
        for batch in batches:
            step = self._group.train_step(batch.inputs, batch.targets, task.loss, optimizer)
            tally.add(step.loss, batch.size, step.trace)
            report(tally.steps, len(batches), tally.current())
        numbers = tally.numbers(self._group, task.partition_sizes(parts)[part])
        numbers[metrics.TRAIN_S] = time.perf_counter() - began_s
        trained = state_arrays(network)
        return LocalResult(trained, numbers, {name: trained.pop(name) for name in self.initial})


class _Tally:
    """Sums over the steps of a task."""

    def __init__(self) -> None:
        self.steps = self._seen = 0
        self._loss = 0.0
        self._trace: Trace | None = None

    def add(self, loss: float, examples: int, trace: Trace | None) -> None:
        """Take one step in."""
        self.steps += 1
        self._seen += examples
        self._loss += loss * examples
        if trace is not None:
            self._trace = self._trace or Trace()
            self._trace += trace

    def current(self) -> dict[str, float]:
        """The numbers shown while training."""
        numbers = {metrics.LOSS: self._loss / self._seen}
        if self._trace is not None:
            numbers[metrics.SPIKE_RATE] = mean_spike_rate(self._trace)
        return numbers

    def numbers(self, group: CoreGroup, part_size: int) -> dict[str, float | int]:
        """The numbers reported with the update; its weight is the examples of the part that were used, each once."""
        numbers: dict[str, float | int] = {metrics.NUM_EXAMPLES: min(self._seen, part_size), **self.current()}
        numbers[metrics.STEPS] = self.steps
        if self._trace is not None:
            numbers.update(trace_numbers(self._trace))
            numbers.update(cost_numbers(group.bill(self._trace), group.chip))
        return numbers


def mean_spike_rate(trace: Trace) -> float:
    """Fraction of all neuron-steps that fired."""
    spikes = [trace.count(layer, Engine.FP).writes.get(TensorClass.SPIKES) for layer in trace.layers]
    elements = sum(s.elements for s in spikes if s)
    return sum(s.nonzeros for s in spikes if s) / elements if elements else 0.0


def trace_numbers(trace: Trace) -> dict[str, float]:
    """Rates by layer and operations by engine, as counted."""
    numbers: dict[str, float] = {}
    for layer in trace.layers:
        if TensorClass.SPIKES in trace.count(layer, Engine.FP).writes:
            numbers[f"{metrics.SPIKE_RATE}/{layer}"] = trace.spike_rate(layer)
        numbers[f"{metrics.GRADIENT_DENSITY}/{layer}"] = trace.gradient_density(layer)
    for _, engine, count in trace:
        if engine is not Engine.UPDATE:
            for name, ops in ((metrics.OPS_DENSE, count.dense_ops), (metrics.OPS_EXECUTED, count.executed_ops)):
                numbers[f"{name}/{engine}"] = numbers.get(f"{name}/{engine}", 0.0) + ops
    return numbers


def cost_numbers(bill: Cost, chip: Chip) -> dict[str, float]:
    """Energy, DRAM traffic and cycles, as modelled, and what the board's link takes."""
    numbers: dict[str, float] = {
        metrics.ENERGY_J: bill.energy_j,
        metrics.DRAM_BYTES: float(bill.dram_total_bytes),
        metrics.CYCLES: float(bill.cycles),
        metrics.CHIP_S: bill.seconds(chip),
        metrics.LINK_BYTES_PER_S: chip.link.bandwidth_bytes_per_s,
        metrics.LINK_PJ_PER_BIT: chip.link.energy_pj_per_bit,
    }
    for (engine, component), picojoules in bill.energy_pj.items():
        numbers[f"{metrics.ENERGY_J}/{engine}/{component}"] = picojoules * 1e-12
    for tensor_class, count in bill.dram_bytes.items():
        numbers[f"{metrics.DRAM_BYTES}/{tensor_class}"] = float(count)
    for engine, cycles in bill.engine_cycles.items():
        numbers[f"{metrics.CYCLES}/{engine}"] = float(cycles)
    for core, busy in enumerate(core_busy(bill, chip)):
        numbers[f"{metrics.CORE_BUSY}/{core:02}"] = busy
    return numbers


def load_chip(name: str) -> Chip:
    """A chip by name or file.

    Raises:
        UnknownChipError: if there is none, or its file is not valid.
    """
    try:
        return Chip.load(name)
    except ChipError as error:
        raise UnknownChipError(str(error)) from None


def run_key(config: Mapping[str, Any]) -> str:
    """What of a configuration makes a trainer; a trainer serves all rounds with the same key."""
    return json.dumps({key: config[key] for key in spec.to_run_config(spec.default_spec()) if key in config})
