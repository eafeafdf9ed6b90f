"""Names of the numbers that workers and the aggregator report, and how to read the structured ones.

A worker's reply is a flat table of numbers (one Flower `MetricRecord`), so that it passes through any Flower engine.
Structured numbers put their parts into the name, divided by `/`.
"""

from __future__ import annotations

from collections.abc import Mapping

NUM_EXAMPLES = "num-examples"
"""Examples trained on: the update's weight (Flower's own name)."""
STEPS = "steps"
"""Training steps done."""
LOSS = "loss"
"""Mean training or test loss."""
ACCURACY = "accuracy"
"""Fraction of examples classified rightly."""
SPIKE_RATE = "spike-rate"
"""Fraction of neuron-steps that fired, over all layers; `spike-rate/LAYER` for one. Measured."""
GRADIENT_DENSITY = "gradient-density"
"""`gradient-density/LAYER`: fraction of current gradients that are not zero. Measured."""
OPS_DENSE = "ops-dense"
"""`ops-dense/ENGINE`: synaptic operations if nothing were skipped. Counted."""
OPS_EXECUTED = "ops-executed"
"""`ops-executed/ENGINE`: synaptic operations with non-zero operands. Counted."""
ENERGY_J = "energy-j"
"""Energy of the emulated chip and its DRAM in joules; `energy-j/ENGINE/COMPONENT` for a part. Modelled."""
DRAM_BYTES = "dram-bytes"
"""DRAM traffic in bytes; `dram-bytes/TENSOR_CLASS` for a part. Modelled."""
CYCLES = "cycles"
"""Clock cycles of the emulated chip; `cycles/ENGINE` for one engine's busy cycles. Modelled."""
CHIP_S = "chip-s"
"""Time the emulated chip would take, in seconds. Modelled."""
CORE_BUSY = "core-busy"
"""`core-busy/NN`: fraction of `cycles` in which an engine of core NN had work, from `core-busy/00`. Modelled."""
ENGINES = ("fp", "bp", "wg", "update")
"""The engines of a core, as they are named in structured numbers."""
LINK_BYTES_PER_S = "link-bytes-per-s"
"""Rate of the emulated board's link to the aggregator. Of the chip's description."""
LINK_PJ_PER_BIT = "link-pj-per-bit"
"""Energy of the emulated board's link for a bit sent or received, in pJ. Of the chip's description."""
TRAIN_S = "train-s"
"""Time the host took to train, in seconds. Measured."""
STALENESS = "staleness"
"""Of a round: mean over its updates of the rounds they were late."""

PRIVACY = "privacy"
EPSILON = f"{PRIVACY}/epsilon"
"""Of a private run's round: epsilon of all rounds so far, at `privacy/delta`. Computed from the noise, not observed."""
DELTA = f"{PRIVACY}/delta"
"""Of a private run's round: the chance that epsilon does not hold."""
CLIP = f"{PRIVACY}/clip"
"""Of a private run's round: the longest that the next one's updates may be. If adaptive, it is itself noisy."""


def parts(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """The parts of a structured metric: `parts({'a/x': 1, 'a/y/z': 2}, 'a') == {'x': 1, 'y/z': 2}`."""
    prefix = name + "/"
    return {k[len(prefix) :]: v for k, v in metrics.items() if k.startswith(prefix)}
