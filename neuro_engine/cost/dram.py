"""DRAM traffic of a trace.

The policy is `store`, layer by layer over the batch: a tensor that an engine reads or writes streams through DRAM
once, so a weight is fetched once per batch and engine, the membranes of FP are kept for BP, and no buffer holds a
tensor from one engine or layer to the next. Engines that share a tensor on chip record one read of it. The capacities
of the buffers therefore do not matter; the bytes are exactly those that the trace holds.
"""

from __future__ import annotations

from collections import Counter

from neuro_engine.trace import EngineCount, TensorClass, Trace


def traffic(trace: Trace) -> tuple[dict[TensorClass, int], dict[TensorClass, int]]:
    """Bytes read from and written to DRAM, by tensor class; classes without traffic are left out."""
    reads: Counter[TensorClass] = Counter()
    writes: Counter[TensorClass] = Counter()
    for _, _, count in trace:
        reads.update({tensor: of.bytes for tensor, of in count.reads.items()})
        writes.update({tensor: of.bytes for tensor, of in count.writes.items()})
    return dict(+reads), dict(+writes)


def moved_bytes(count: EngineCount) -> int:
    """Bytes that an engine reads and writes."""
    return sum(of.bytes for of in (*count.reads.values(), *count.writes.values()))
