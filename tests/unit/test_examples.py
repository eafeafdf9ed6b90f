"""The examples run as a user would run them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str) -> list[str]:
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_plain_torch_loop_learns_the_digits() -> None:
    lines = printed("plain_torch_loop.py")
    accuracies = [float(a) for line in lines for a in re.findall(r"accuracy ([\d.]+)%", line)]
    assert len(accuracies) == len(lines) == 3
    assert accuracies[-1] > 85.0  # chance is 10


def test_bill_of_a_step_adds_up() -> None:
    _, *rows, total = printed("bill_of_a_step.py")
    assert [row.split()[:2] for row in rows] == [
        [layer, engine] for layer in ("conv1", "conv2", "hidden", "readout") for engine in ("fp", "bp", "wg", "update")
    ]
    energy = re.search(r"step: ([\d.]+) µJ, ([\d,]+) cycles .* ([\d,]+) DRAM bytes", total)
    assert energy
    assert sum(float(row.split()[4]) for row in rows) == pytest.approx(float(energy[1]), abs=0.005 * (len(rows) + 1))
    assert sum(int(row.split()[-1].replace(",", "")) for row in rows) == int(energy[3].replace(",", ""))
    assert int(energy[2].replace(",", "")) > 0


def test_from_snntorch_agrees_or_says_what_it_needs() -> None:
    if importlib.util.find_spec("snntorch"):
        spikes, bill = printed("from_snntorch.py")
        assert re.fullmatch(r"spikes: (\d+) there, \1 here, 0 differ", spikes)
        assert re.search(r"[\d.]+ µJ, [\d,]+ cycles, [\d,]+ DRAM bytes", bill)
    else:
        with pytest.raises(AssertionError, match=r"needs snnTorch: pip install 'neurofed\[interop\]'"):
            printed("from_snntorch.py")
