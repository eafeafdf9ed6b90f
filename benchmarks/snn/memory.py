"""Peak memory of a step, each contestant in a process of its own.

What is counted is the greatest resident size during a few steps less the resident size before the first one, when
libraries, data and model are loaded. Gains come from a file, since calibrating would leave memory behind.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.snn import contestants
from benchmarks.snn.nets import NETS, Net, batch

_STEPS = 3


def peak_mb(name: str, net: Net, parameters: Path | None) -> float:
    """Peak above the baseline, in MB (10^6 bytes).

    Args:
        name: the contestant.
        net: one of `NETS`, at any size.
        parameters: see `contestants.trainer`.
    """
    index = next(n for n, known in enumerate(NETS) if known.name == net.name)
    size = [str(net.batch), str(net.steps), str(net.side)]
    command = [sys.executable, "-m", "benchmarks.snn.memory", name, str(index), *size]
    if parameters is not None:
        command.append(str(parameters))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _resident_mb(field: str) -> float:
    """A field of Linux's account of this process; `getrusage` would count what ran before `exec` as well."""
    match = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024 / 1e6


def main() -> None:
    """The child: print the peak of one contestant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("net", type=int)
    for size in ("batch", "steps", "side"):
        parser.add_argument(size, type=int)
    parser.add_argument("parameters", type=Path, nargs="?")
    options = parser.parse_args()
    torch.set_num_threads(2)
    net = replace(NETS[options.net], batch=options.batch, steps=options.steps, side=options.side)
    trainer = contestants.trainer(options.name, net, options.parameters)
    inputs, targets = batch(net)
    baseline_mb = _resident_mb("VmRSS")
    for _ in range(_STEPS):
        trainer.step(inputs, targets)
    print(_resident_mb("VmHWM") - baseline_mb)


if __name__ == "__main__":
    main()
