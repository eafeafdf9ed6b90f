"""The stub workload as an installed package, for the processes of a benchmark only."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.fleet import stub
from workloads.registry import GROUP

_ROOT = Path(__file__).resolve().parents[2]


def environment(folder: Path) -> dict[str, str]:
    """Variables under which a process finds the stub workload by its entry point.

    Args:
        folder: where the package's metadata may be written.
    """
    metadata = folder / "neurofed_stub-0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: neurofed-stub\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{stub.NAME} = {stub.__name__}:WORKLOAD\n")
    path = os.pathsep.join(filter(None, (str(folder), str(_ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
