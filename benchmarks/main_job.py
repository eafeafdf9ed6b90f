"""The main job: `neurofed run` with its defaults, over three seeds, with and without carried state.

Every run is the real command: an aggregator and five workers as processes, over gRPC. Accuracy is the last global
model's on the test clips. The engines' agreement with autograd and the independence of arrival order are exact
properties and therefore tests (`test_engines_vs_autograd.py`, `test_fedavg.py`), not rows here.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must

SEEDS = (0, 1, 2)


def train(out: Path, *options: str) -> dict[str, Any]:
    """One `neurofed run`; returns its report and the time the whole command took."""
    began_s = time.perf_counter()
    command = [sys.executable, "-m", "neurofed", "run", "--json", "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return {**report, "command_wall_s": time.perf_counter() - began_s}


def row(name: str, report: dict[str, Any]) -> dict[str, Any]:
    """The figures of one run."""
    final = report["final"]
    return {
        "variant": name,
        "seed": report["seed"],
        "rounds": len(report["rounds"]),
        "accuracy": final["accuracy"],
        "command_wall_s": report["command_wall_s"],
        "energy_j_modelled": final["energy_j"],
        "dram_bytes_modelled": final["dram_bytes"],
        "cycles_modelled": final["cycles"],
        "bytes_up_measured": final["bytes_up"],
        "bytes_down_measured": final["bytes_down"],
        "model_sha256": report["rounds"][-1]["model_sha256"],
    }


def help_cpu_s() -> float:
    """Processor time of `neurofed --help`: the least of five."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "neurofed", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    common = ("--preset", "tiny", "--workers", "2") if options.quick else ()
    seeds = SEEDS[:1] if options.quick else SEEDS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for seed in seeds:
            chosen = (*common, "--seed", str(seed))
            rows.append(row("carried", train(out, *chosen, "--run-id", f"carried-{seed}")))
            reset = ("--set", "workload.carry_state=false", "--run-id", f"reset-{seed}")
            rows.append(row("reset", train(out, *chosen, *reset)))
        bare = train(out, *common, "--seed", "0", "--no-trace", "--run-id", "bare")
        rows.append(row("carried, not counted", bare))
    carried = [r["accuracy"] for r in rows if r["variant"] == "carried"]
    gaps = [c - r["accuracy"] for c, r in zip(carried, (r for r in rows if r["variant"] == "reset"), strict=True)]
    same = float(rows[0]["model_sha256"] == rows[-1]["model_sha256"])
    musts = [
        must("accuracy, mean of seeds", statistics.mean(carried), ">=", 0.50),
        must("accuracy, least of seeds", min(carried), ">=", 0.50),
        must("carried minus reset, mean of seeds", statistics.mean(gaps), ">=", 0.15),
        must("longest run, s", max(r["command_wall_s"] for r in rows), "<=", 240.0),
        must("same weights with and without counting", same, "==", 1.0),
        must("neurofed --help, CPU s", help_cpu_s(), "<=", 0.3),
    ]
    finish("main_job", options, seeds, rows, musts)


if __name__ == "__main__":
    main()
