"""The chip's bill: against SCALE-Sim and RTL, how fast it is, how 20 cores scale, and DRAM traffic beside a GPU's.

What must hold of any bill (executed operations are counts of non-zeros, bytes written are at least those first read,
no faster than the roofline, monotone, nothing for a trace of zeros, costs add up) are exact properties and therefore
tests, in `tests/property`, not rows here. All figures are modelled but seconds and those of SCALE-Sim.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.chip_model import counts, figures, rtl
from benchmarks.chip_model.golden import golden
from benchmarks.common import finish, must, parser
from neuro_engine.claims import DRAM_BAND
from neuro_engine.cost.gpu import Variant
from neuro_engine.cost.networks.shape import BATCH_NORMS
from neurofed.files import write_atomically

Rows = list[dict[str, Any]]


def main() -> None:
    """Run the benchmark, or write the golden bills."""
    options_of = parser(__doc__)
    options_of.add_argument("--golden", type=Path, metavar="FILE", help="write the bills that tests compare with")
    options = options_of.parse_args()
    if options.golden:
        write_atomically(options.golden, (json.dumps(golden(), indent=1) + "\n").encode())
        return
    speed = speed_musts(options.quick)  # first, while nothing is cached
    results = [scale_sim(), rows_in_rtl(options.quick), same_bits(options.quick), scaled()]
    rows = [row for found, _ in results for row in found] + traffic() + figures.efficiency_rows()
    musts = [entry for _, found in results for entry in found] + speed
    finish("chip_model", options, [counts.SEED], rows, musts)


def speed_musts(quick: bool) -> Rows:
    """How long reports take."""
    points = 50 if quick else 1000
    return [
        must("report of SEW-ResNet-18 on 20 cores, CPU s", figures.profile_cpu_s(), "<=", 2.0),
        must(f"sweep of {points} chips, CPU s", figures.sweep_cpu_s(points), "<=", 60.0),
    ]


def scale_sim() -> tuple[Rows, Rows]:
    """Dense cycles."""
    rows = counts.scale_sim()
    off = max(abs(row["ours_modelled"] - row["scale_sim_measured"]) for row in rows)
    return rows, [must("six SCALE-Sim counts, greatest deviation, cycles", off, "==", 0)]


def rows_in_rtl(quick: bool) -> tuple[Rows, Rows]:
    """Random cases of each engine's row, with both prices of an empty word."""
    cases, rows, musts = 50 if quick else 3000, [], []
    here = shutil.which(rtl.SIMULATOR) is not None
    for engine, row in rtl.ROWS.items():
        found = [row(cases, empty=empty) for empty in (1, 2)] if here else []
        ran = sum(len(lines) for lines, _ in found) if here else None
        differ = sum(rtl.mismatches(*lines) for lines in found) if here else None
        reason = "" if here else f"needs the program {rtl.SIMULATOR}"
        rows.append({"row": engine, "cases": ran, "mismatches": differ, "reason": reason})
        musts.append(must(f"{engine.upper()} row in RTL, random cases", ran, ">=", 3000))
        musts.append(must(f"{engine.upper()} row in RTL, mismatches", differ, "==", 0))
    return rows, musts


def same_bits(quick: bool) -> tuple[Rows, Rows]:
    """Weights trained on one core and on twenty."""
    rows = [{"chip": chip, "sha256": counts.weights_sha256(chip, 2 if quick else 8)} for chip in counts.TRAINED_ON]
    same = float(len({row["sha256"] for row in rows}) == 1)
    return rows, [must("weights of 1 core equal those of 20 bit for bit", same, "==", 1.0)]


def scaled() -> tuple[Rows, Rows]:
    """Twenty cores over one."""
    rows: Rows = []
    musts: Rows = []
    for name, aim in figures.SCALED.items():
        found = figures.scaling_rows(name)
        rows += found
        for row in found:
            if row["mapping"] == "search":
                waits = "waited for" if row["waits_for_dram"] else "not waited for"
                musts.append(must(f"{name}, 20 cores over 1, DRAM {waits}", row["speedup"], ">=", aim))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    least = min(found["speedup"] / baseline["speedup"] for found, baseline in pairs)
    return rows, [*musts, must("search over greedy mapping, least gain", least, ">=", 1.0)]


def traffic() -> Rows:
    """DRAM bytes beside a GPU's, and how many networks that puts into the claimed band: a finding, nothing promised."""
    rows = figures.dram_rows()
    chosen = [row for row in rows if row["gpu_kernels"] == Variant.FUSED.value and row["norm"] not in BATCH_NORMS]
    inside = sum(row["band"] == "inside" for row in chosen)
    band = {"band": DRAM_BAND, "gpu_kernels": Variant.FUSED.value, "without_batch_norm": len(chosen), "inside": inside}
    return [*rows, band]


if __name__ == "__main__":
    main()
