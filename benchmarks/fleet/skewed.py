"""`python -m benchmarks.fleet.skewed FILE COMMAND...`: `neurofed` under a clock that is wrong by what a file says."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from neurofed.files import write_atomically

_true_time = time.time


def set_offset(file: Path, seconds: float) -> None:
    """Let the clock be wrong by so much from now on."""
    write_atomically(file, str(seconds).encode())


def main() -> None:
    """Set the clock wrong before anything else can look at it, then run the command."""
    file = Path(sys.argv[1])
    time.time = lambda: _true_time() + float(file.read_text())
    from neurofed.cli import main as neurofed

    sys.argv[1:2] = []
    neurofed()


if __name__ == "__main__":
    main()
