"""The engines' native kernels against numba and plain torch: which of them the engines should stand on.

All contestants do the same work on the same float32 maps (fp16 where said, which numba lacks on CPUs), on one thread,
round by round in turn; a row has CPU time of torch's dense operation and, for the others, the median over the rounds of
their time by torch's in the same round. Spikes come packed, as the engines have them; arranging the weights counts.

numba is optional: where it is not installed, its rows are absent. It is no dependency of ours; to have its rows,
install it into the environment of this run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.common import arguments, finish
from benchmarks.event_kernels.case import SEED
from benchmarks.event_kernels.contest import Contest
from benchmarks.event_kernels.costs import costs
from benchmarks.event_kernels.numba_kernels import Numba
from benchmarks.event_kernels.timing import threads
from neuro_engine.kernels import build, native


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    level = build.level()
    if level is None or native.library() is None:
        sys.exit(f"expected native kernels to measure, got none: {build.find()[1]}")
    with tempfile.TemporaryDirectory() as name:
        folder, levels = Path(name), list(build.LEVELS)
        below = levels[levels.index(level) + 1 :] if level in levels else []
        lower = (below[0], ctypes.CDLL(str(build.compile_library(folder / "lower", below[0])))) if below else None
        with_numba = importlib.util.find_spec("numba") is not None
        if with_numba:
            os.environ["NUMBA_CACHE_DIR"] = str(folder / "here")
        contest = Contest(level, lower, Numba() if with_numba else None)
        with threads(1):
            rows = list(contest.rows(quick=options.quick))
            musts = contest.musts(quick=options.quick)
        rows += costs(level, folder, with_numba=with_numba)
    finish("kernels", options, [SEED], rows, musts, ("numba", "llvmlite") if with_numba else ())


if __name__ == "__main__":
    main()
