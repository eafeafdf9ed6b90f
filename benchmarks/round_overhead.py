"""What a round costs when nobody trains: against a bare gRPC stream, against stock Flower, and in memory.

Five workers get a model of 24 MB and send one back. Ours are real workers with a workload that has nothing to do, so
the round has all that a round has: model into torch and out of it, digests, admission, exact aggregation, evaluation, a
checkpoint on the disk. The bare stream moves the same bytes between as many processes, in the same chunks; rounds of
both alternate in blocks. Flower gets fewer nodes where it says so, which is in its favour, and has the machine for
itself.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must
from benchmarks.fleet import crowd, flower_stock, plugin, probe
from benchmarks.fleet.bare import BareFleet
from benchmarks.fleet.kills import undisturbed
from benchmarks.fleet.processes import Fleet, stub_run

_MIB = 1 << 20
_PATIENCE_S = 180.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        model_bytes: size of the model.
        workers: ours and those of the bare stream.
        blocks: how often ours and the bare stream take turns.
        rounds: rounds in a turn.
        flower_nodes: SuperNodes.
        flower_rounds: rounds of Flower, the first of which is not counted.
        connections: counts of simulated workers whose models the aggregator has to bear at once.
    """

    model_bytes: int
    workers: int
    blocks: int
    rounds: int
    flower_nodes: int
    flower_rounds: int
    connections: tuple[int, ...]


FULL = Scale(24_000_000, 5, 5, 5, 5, 4, (5, 20, 50))
QUICK = Scale(4_000_000, 2, 2, 3, 1, 1, (3, 6))


def side_by_side(folder: Path, scale: Scale) -> tuple[list[Row], list[float], list[float]]:
    """Blocks of our rounds and of the bare stream's, by turns; one row for each pair of blocks.

    Returns:
        The rows, all times of our rounds, and the ratios of the blocks' medians.
    """
    environment = plugin.environment(folder / "plugin")
    rows: list[Row] = []
    ours: list[float] = []
    with (
        Fleet(folder, scale.workers, linked=False) as fleet,
        BareFleet(folder, scale.workers, scale.model_bytes, environment) as bare,
    ):
        for block in range(scale.blocks):
            times_s, cpu_s = _our_rounds(fleet, f"block-{block}", scale)
            bare_times_s, bare_cpus_s = zip(*(bare.round() for _ in range(scale.rounds)), strict=True)
            ours += times_s
            rows.append(
                {
                    "block": block,
                    "model_bytes": scale.model_bytes,
                    "workers": scale.workers,
                    "round_s": statistics.median(times_s),
                    "bare_round_s": statistics.median(bare_times_s),
                    "times_bare": statistics.median(times_s) / statistics.median(bare_times_s),
                    "round_cpu_s": cpu_s,
                    "bare_round_cpu_s": statistics.median(bare_cpus_s),
                    "times_bare_cpu": cpu_s / statistics.median(bare_cpus_s),
                }
            )
    return rows, ours, [row["times_bare"] for row in rows]


def _our_rounds(fleet: Fleet, run_id: str, scale: Scale) -> tuple[list[float], float]:
    """Times of the rounds of a run but the first, and the processor time of one round, all processes together."""
    run = stub_run(scale.workers, scale.rounds + 1, model_bytes=scale.model_bytes)
    pids = [fleet.aggregator.pid, *(worker.pid for worker in fleet.workers)]
    fleet.submit(run_id, run)
    fleet.wait_for(run_id, "checkpoint_written")
    cpu_s = sum(map(probe.cpu_s, pids))
    fleet.finish(run_id)
    cpu_s = sum(map(probe.cpu_s, pids)) - cpu_s
    ends = [entry.time_s for entry in fleet.events(run_id, "checkpoint_written")]
    return [after - before for before, after in itertools.pairwise(ends)], cpu_s / scale.rounds


def flower(folder: Path, scale: Scale) -> list[float]:
    """Times of stock Flower's rounds; none where it did not manage."""
    folder.mkdir()
    try:
        return flower_stock.round_times_s(
            folder, scale.flower_nodes, scale.model_bytes, scale.flower_rounds, _PATIENCE_S
        )
    except flower_stock.FlowerError as error:
        print(f"Flower: {error}")
        return []


def memory(folder: Path, connections: int, model_bytes: int) -> Row:
    """How far the aggregator's memory rises above what it has when idle and warm, with so many workers at once."""
    with (
        Fleet(folder, 0) as fleet,
        fleet.guest(crowd.__name__, fleet.address, str(connections)),
    ):
        undisturbed(fleet, "warm", stub_run(connections, 1))
        pid = fleet.aggregator.pid
        idle = probe.rss_bytes(pid)
        probe.reset_peak(pid)
        undisturbed(fleet, "full", stub_run(connections, 3, model_bytes=model_bytes))
        return {
            "connections": connections,
            "model_bytes": model_bytes,
            "idle_rss_mib": idle / _MIB,
            "peak_extra_rss_mib": (probe.peak_rss_bytes(pid) - idle) / _MIB,
        }


def promised(
    scale: Scale, ratios: Sequence[float], ours: Sequence[float], theirs: Sequence[float], memories: Sequence[Row]
) -> list[Row]:
    """The numbers that were promised."""
    share = statistics.median(ours) / statistics.median(theirs) if theirs else None
    limit_mib = (2 * scale.model_bytes + 64_000_000) / _MIB
    extras = [row["peak_extra_rss_mib"] for row in memories]
    counts = ", ".join(str(row["connections"]) for row in memories)
    name = f"round of {scale.workers} workers over one of stock Flower with {scale.flower_nodes}"
    return [
        must("round over one of a bare gRPC stream, median of blocks", statistics.median(ratios), "<=", 1.5),
        must(name, share, "<=", 0.1),
        must(f"aggregator's peak extra RSS, most of {counts} connections, MiB", max(extras), "<=", limit_mib),
        must("the same, with most connections over with fewest", extras[-1] / extras[0], "<=", 1.25),
    ]


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, ours, ratios = side_by_side(folder / "rounds", scale)
        theirs = flower(folder / "flower", scale)
        rows.append({"stock_flower_nodes": scale.flower_nodes, "round_s": theirs})
        memories = [memory(folder / f"memory-{n}", n, scale.model_bytes) for n in scale.connections]
    finish("round_overhead", options, [0], [*rows, *memories], promised(scale, ratios, ours, theirs, memories))


if __name__ == "__main__":
    main()
