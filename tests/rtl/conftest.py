"""Runs a bench with Icarus Verilog."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

HERE = Path(__file__).parent
Simulate = Callable[..., list[list[int]]]


def _hex_lines(memory: NDArray[np.integer]) -> str:
    """One line of hexadecimal digits for each row of the memory, whose first value takes the lowest bits."""
    rows = memory.reshape(len(memory), -1)[:, ::-1]
    digits = rows.astype(rows.dtype.newbyteorder(">")).tobytes().hex()
    width = 2 * rows.itemsize * rows.shape[1]
    return "\n".join(digits[at : at + width] for at in range(0, len(digits), width))


@pytest.fixture
def simulate(tmp_path: Path) -> Simulate:
    """A function of a bench, its memories and its parameters that returns the integers of each line it prints.

    With `bug=(file, code, other code)` the row has that bug.
    """
    if shutil.which("iverilog") is None:
        absent = pytest.fail if "iverilog" in os.environ.get("NEUROFED_REQUIRE", "").split(",") else pytest.skip
        absent("needs the program `iverilog`")

    def run(
        bench: str,
        memories: Mapping[str, NDArray[np.integer]],
        bug: tuple[str, str, str] | None = None,
        **parameters: int,
    ) -> list[list[int]]:
        shutil.copytree(HERE / "rows", tmp_path, dirs_exist_ok=True)
        if bug:
            file, code, other = bug
            text = (tmp_path / file).read_text()
            assert text.count(code) == 1
            (tmp_path / file).write_text(text.replace(code, other))
        for name, memory in memories.items():
            (tmp_path / f"{name}.hex").write_text(_hex_lines(memory))
        sources = [str(path) for path in (HERE / "bench" / f"{bench}.v", *sorted(tmp_path.glob("*.v")))]
        options = [f"-P{bench}.{name}={value}" for name, value in parameters.items()]
        command = ["iverilog", "-g2012", "-s", bench, *options, "-o", "bench.vvp", *sources]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        done = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=tmp_path, check=True, timeout=150, capture_output=True)
        return [[int(number) for number in line.split()] for line in done.stdout.decode().splitlines()]

    return run
