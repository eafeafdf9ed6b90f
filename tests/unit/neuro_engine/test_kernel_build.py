"""Where the kernels come from, and what happens where there are none."""

import json
import os
import subprocess
import sys

import pytest

from neuro_engine.kernels import build, crossover, native

STEP = """
import json, torch
from neuro_engine.kernels import build, native
from neuro_engine.layers import AvgPool2d, Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.trace import Trace

torch.manual_seed(0)
network = SpikingNetwork({
    "a": SpikingConv2d(2, 24, 3, padding=1, analog_input=True), "pool": MaxPool2d(2),
    "b": SpikingConv2d(24, 32, 3, padding=1), "flat": Flatten(), "c": SpikingLinear(512, 40), "out": Readout(40, 3),
})
for layer in ("a", "b", "c"):
    network.layers[layer].gain.data.fill_(3.0)
network.set_precision("fp16")
trace = Trace()
x = torch.randint(0, 8, (3, 4, 2, 8, 8), generator=torch.Generator().manual_seed(1)) / 8
with network.recording(trace):
    out = network(x)
    (out.square().sum() * 64).backward()
rates = [trace.spike_rate(name) for name in "abc"]
print(json.dumps({"native": native.library() is not None, "why": build.find()[1], "out": out.tolist(), "rates": rates,
                  "grad": [p.grad.norm().item() for p in network.parameters()]}))
"""


def _step(tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env={**os.environ, "NEUROFED_CACHE": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


needs_compiler = pytest.mark.skipif(build.level() is None or build.compiler() is None, reason="no C compiler")


@needs_compiler
@pytest.mark.parametrize(
    "environment", [{"CC": "no-such-compiler"}, {"NEUROFED_KERNELS": "reference"}, {"CC": "false"}]
)
def test_without_kernels_torch_computes_the_same(tmp_path, environment):
    kernels, plain = _step(tmp_path / "a"), _step(tmp_path / "b", **environment)
    assert kernels["native"]
    assert not plain["native"]
    assert ("switched off" if "NEUROFED_KERNELS" in environment else "compile") in plain["why"]
    assert all(rate > 0.02 for rate in kernels["rates"])
    assert plain["rates"] == pytest.approx(kernels["rates"], rel=0.02)
    # Another order of a sum can move a membrane across its threshold: the two agree closely, not to the last bit.
    for a, b in zip(plain["grad"], kernels["grad"], strict=True):
        assert a == pytest.approx(b, rel=0.05)


@needs_compiler
def test_every_level_of_this_processor_gives_the_same_bits(tmp_path):
    levels = list(build.LEVELS)
    usable = levels[levels.index(build.level()) :] if build.level() in levels else [build.level()]
    script = (
        "import ctypes, sys\n"
        "from neuro_engine.kernels import native\n"
        "lib = ctypes.CDLL(sys.argv[1]); native.binding.library = lambda: lib\n"
    )
    found = []
    for level in usable:
        library = build.compile_library(tmp_path, level)
        done = subprocess.run(
            [sys.executable, "-c", script + STEP, str(library)],
            env={**os.environ, "NEUROFED_CACHE": str(tmp_path), "NEUROFED_CROSSOVER": "1.1"},
            capture_output=True,
            text=True,
            check=True,
        )
        result = json.loads(done.stdout)
        found.append((result["out"], result["grad"], result["rates"]))
    assert all(result == found[0] for result in found)


@needs_compiler
def test_crossovers_are_measured_once_and_then_read(tmp_path):
    script = "from neuro_engine.kernels.crossover import crossover; print(crossover('gather', 64, 64))"
    environment = {**os.environ, "NEUROFED_CACHE": str(tmp_path)}
    environment.pop("NEUROFED_CROSSOVER", None)

    def ask(**more):
        run = subprocess.run(
            [sys.executable, "-c", script], env={**environment, **more}, capture_output=True, text=True, check=True
        )
        return float(run.stdout)

    first = ask()
    assert 0.0 <= first <= 0.9
    (kept,) = tmp_path.glob("crossover-*.json")
    values = json.loads(kept.read_text())
    assert len(values) == 3 * len(crossover.INPUTS) * len(crossover.OUTPUTS)
    kept.write_text(json.dumps({**values, "gather/64-64": 0.123}))
    assert ask() == 0.123
    kept.write_text("not json")
    assert 0.0 <= ask() <= 0.9
    assert json.loads(kept.read_text())
    assert ask(NEUROFED_CROSSOVER="0.77") == 0.77


def test_the_name_of_a_library_changes_with_its_options():
    assert build.library_name("x86-64-v3") != build.library_name("x86-64-v4")
    assert build.library_name(build.ARM).startswith("kernels-aarch64-")


@pytest.mark.skipif(native.library() is None, reason="no kernels for this machine and no compiler")
def test_torch_and_the_kernels_share_a_pool_of_threads():
    script = """
import torch
from neuro_engine.kernels import native
assert native.library() is not None
print({line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line or "libiomp" in line})
"""  # in a process of their own: other libraries bring such pools too
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'") <= 2
