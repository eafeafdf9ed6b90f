"""A profile as plain data and in the terminal."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from neuro_engine.cost import Efficiencies
from neuro_engine.cost.gpu import BAND, Variant, gpu_bill
from neuro_engine.profile import Profile
from neurofed import units

Data = dict[str, Any]


def as_data(found: Profile) -> Data:
    """A profile as JSON holds it; every figure is modelled."""
    chip, bill, run = found.chip, found.bill, found.schedule
    return {
        "network": found.shape.name,
        "shapes_from": found.shape.source,
        "norm": found.shape.norm,
        "chip": chip.name,
        "batch": found.batch,
        "sparsity": {**found.sparsity.table(), "origin": found.sparsity.origin},
        "provenance": "modelled",
        "layers": _layers(found),
        "energy_j": bill.energy_j,
        "energy_by_component_j": {part.value: joules for part, joules in bill.energy_by_component_j.items() if joules},
        "dram_bytes": bill.dram_total_bytes,
        "dram_by_class": {tensor.value: size for tensor, size in sorted(bill.dram_bytes.items())},
        "cycles": run.cycles,
        "seconds": found.seconds,
        "efficiencies_tflops_per_w": dataclasses.asdict(bill.efficiencies(chip)),
        "definitions": dict(Efficiencies.DEFINITIONS),
        "schedule": {
            "micro_batch_samples": found.samples,
            "bubble": run.bubble,
            "balance": run.balance,
            "stall_engine_cycles": {cause.value: cycles for cause, cycles in run.stalls.items()},
            "stages": [
                {"layers": list(stage.layers), "cores": stage.cores, "replicas": stage.replicas}
                for stage in found.mapping.stages
            ],
        },
        "gpu": _gpus(found),
    }


def _layers(found: Profile) -> list[Data]:
    return [
        {
            "layer": layer,
            "engine": engine.value,
            "cycles": part.cycles,
            "utilisation": part.utilisation,
            "imbalance": part.imbalance,
            "dense_ops": part.dense_ops,
            "executed_ops": part.executed_ops,
            "energy_j": part.energy_j,
            "dram_bytes": part.dram_bytes,
        }
        for (layer, engine), part in found.bill.layers.items()
    ]


def _gpus(found: Profile) -> list[Data]:
    rows = []
    for variant in Variant:
        for folded in (True, False):
            bill = gpu_bill(found.shape, found.batch, variant, folded=folded)
            least, most = bill.band_bytes
            rows.append(
                {
                    "gpu": bill.gpu.name,
                    "variant": variant.value,
                    "time_folded": folded,
                    "dram_bytes": bill.bytes,
                    "dram_bytes_band": [least, most],
                    "seconds": bill.seconds,
                    "chip_saves": 1 - found.bill.dram_total_bytes / bill.bytes,
                }
            )
    return rows


def show(data: Data, console: Console | None = None) -> None:
    """Print a profile."""
    console = console or Console(highlight=False)
    sparsity = data["sparsity"]
    console.print(
        f"{data['network']} on {data['chip']}, one training step of {data['batch']} samples. All figures modelled; "
        f"sparsity {sparsity['origin']}: firing rate {sparsity['spike_rate']:g}, gradients "
        f"{sparsity['gradient_density']:g}"
    )
    console.print(_layer_table(data))
    console.print(_efficiency_table(data))
    schedule = data["schedule"]
    stalls = ", ".join(f"{cause} {units.count(n)}" for cause, n in schedule["stall_engine_cycles"].items())
    bubble, balance = units.percent(schedule["bubble"]), units.percent(schedule["balance"])
    console.print(
        f"schedule: {units.count(data['cycles'])} cycles, {units.duration(data['seconds'])}; micro-batches of "
        f"{schedule['micro_batch_samples']}, {len(schedule['stages'])} stages, bubble {bubble}, balance {balance}; "
        f"engine-cycles waiting: {stalls}"
    )
    console.print(_gpu_table(data))


def _layer_table(data: Data) -> Table:
    table = Table(box=box.SIMPLE, show_footer=True)
    total = [units.count(sum(row["executed_ops"] for row in data["layers"])), units.energy(data["energy_j"])]
    heads = ("layer", "engine", "core cycles", "use", "imbalance", "dense ops", "executed", "energy", "DRAM")
    foot = ("all", "", "", "", "", "", *total, units.data(data["dram_bytes"]))
    for head, below in zip(heads, foot, strict=True):
        table.add_column(head, below, justify="left" if head in ("layer", "engine") else "right")
    for row in data["layers"]:
        table.add_row(
            row["layer"],
            row["engine"],
            units.count(row["cycles"]),
            units.percent(row["utilisation"]),
            f"{row['imbalance']:.2f}",
            units.count(row["dense_ops"]),
            units.count(row["executed_ops"]),
            units.energy(row["energy_j"]),
            units.data(row["dram_bytes"]),
        )
    return table


def _efficiency_table(data: Data) -> Table:
    table = Table("efficiency", "TFLOPS/W", "definition", box=box.SIMPLE)
    for name, value in data["efficiencies_tflops_per_w"].items():
        table.add_row(name.replace("_", " "), f"{value:.2f}", data["definitions"][name])
    return table


def _gpu_table(data: Data) -> Table:
    table = Table("GPU", "kernels", "time", "DRAM", f"band ({BAND:.0%})", "step", "chip moves less by", box=box.SIMPLE)
    for row in data["gpu"]:
        band = " to ".join(map(units.data, row["dram_bytes_band"]))
        folded = "in the batch" if row["time_folded"] else "step by step"
        table.add_row(
            row["gpu"],
            row["variant"],
            folded,
            units.data(row["dram_bytes"]),
            band,
            units.duration(row["seconds"]),
            units.percent(row["chip_saves"]),
        )
    return table
