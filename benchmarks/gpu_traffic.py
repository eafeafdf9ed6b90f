"""DRAM bytes of a training step on a GPU: what `neuro_engine.cost.gpu` models, counted and measured.

Counted, on any machine: passes over memory that the operations of eager neurons make, from which the model's constants
come. Measured, where there is an NVIDIA GPU and Nsight Compute may read its counters: bytes to and from DRAM of forward
and backward, against the model with that GPU's cache. Otherwise it says what is missing, and the results say `skipped`.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.common import arguments, finish, must
from neuro_engine.cost.gpu import BAND, GPUS, gpu_bill
from neuro_engine.cost.networks import NetworkShape, Window, network

Row = dict[str, Any]
Neurons = Callable[[Tensor], Tensor]

STEPS, NEURONS = 4, 4096
COUNTERS = "dram__bytes_read.sum", "dram__bytes_write.sum"
NETWORKS = {"vgg11": 128, "resnet18": 128, "dvs_gesture": 16, "sew_resnet18": 16}
"""Networks that are measured, and their batches."""
_UNTOUCHED = "empty", "empty_like", "new_empty", "empty_strided", "_unsafe_view"
"""Operations that move nothing, beside those that torch says are views."""
_FILLS = "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "fill_", "zero_"
"""Operations that read nothing."""


class _ATan(torch.autograd.Function):
    """A spike, and the derivative of the arc tangent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        derivative: Tensor = grad / (1 + (torch.pi * x) ** 2)
        return derivative


def plain(current: Tensor) -> Tensor:
    """LIF neurons with hard, detached reset (T, ...), in as few operations as torch takes."""
    v, spikes = torch.zeros_like(current[0]), []
    for fed in current:
        h = 0.5 * v + fed
        s: Tensor = _ATan.apply(h - 1.0)  # type: ignore[no-untyped-call]
        v = h * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes)


def spikingjelly() -> Neurons:
    """The same neurons by SpikingJelly, torch backend."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")

    def run(current: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(current)  # type: ignore[no-any-return]

    return run


class _Passes(TorchDispatchMode):
    """Counts bytes of the operands and results of all operations that are no views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read = self.written = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not func.is_view and name not in _UNTOUCHED:
            read = [] if name in _FILLS else tree_leaves((args, kwargs))
            self.read += sum(_size(t) for t in read if isinstance(t, Tensor))
            self.written += sum(_size(t) for t in tree_leaves(result) if isinstance(t, Tensor))
            self.operations += 1
        return result


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def count(name: str, neurons: Neurons) -> Row:
    """Passes over a map of FP16 that neurons make in a time step, forward and backward."""
    current = torch.randn(STEPS, NEURONS, dtype=torch.float16, requires_grad=True)
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _Passes() as forward:
        spikes = neurons(current)
    error = torch.ones_like(spikes)
    with _Passes() as backward:
        spikes.backward(error)
    once = _size(current)
    row: Row = {"part": "counted", "neurons": name, "kept": sum(size for size, _ in kept.values()) / once}
    for way, passes in (("forward", forward), ("backward", backward)):
        row |= {f"{way}_reads": passes.read / once, f"{way}_writes": passes.written / once}
        row[f"{way}_launches"] = passes.operations / STEPS
    return row


class ShapeNet(nn.Module):
    """A network with the shapes of the catalogue, in plain torch: (T, B, ...) to the mean of the last layer.

    Args:
        shape: the network.
        neurons: current to spikes, all steps at once.
    """

    def __init__(self, shape: NetworkShape, neurons: Neurons) -> None:
        super().__init__()
        self.shape, self.neurons = shape, neurons
        self.synapses, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for name, g in shape.layers.items():
            window = shape.windows.get(name) or Window.of(g)
            bias = not shape.normalised_by_batch or name in shape.readouts
            conv = nn.Conv2d(g.in_channels, g.out_channels, g.kernel, *window, groups=g.groups, bias=bias)
            self.synapses[_key(name)] = conv
            if not bias:
                self.norms[_key(name)] = nn.BatchNorm2d(g.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, C, H, W) to the mean over time of the last layer (B, C, H, W)."""
        sums: dict[tuple[str, ...], Tensor] = {(): x}  # a single output, too

        def total(sources: tuple[str, ...]) -> Tensor:
            if sources not in sums:
                sums[sources] = total(sources[:1]) + total(sources[1:])  # the shortcut's sum is there already
            return sums[sources]

        for name, g in self.shape.layers.items():
            fed = total(self.shape.sources(name))
            current = self._current(name, fed[:1] if g.static else fed)
            current = current.expand(x.shape[0], *current.shape[1:])
            sums[name,] = x = current if name in self.shape.readouts else self.neurons(current)
        return x.mean(0)

    def _current(self, name: str, fed: Tensor) -> Tensor:
        g, folded = self.shape.layers[name], fed.flatten(0, 1)
        flattened = g.in_channels // folded.shape[1]  # pixels that a linear layer takes as channels
        sides = (math.isqrt(flattened),) * 2 if flattened > 1 else g.in_size
        if folded.shape[2:] != sides:
            pool = F.adaptive_avg_pool2d if name in self.shape.values else F.adaptive_max_pool2d
            folded = pool(folded, sides)
        folded = folded.reshape(-1, g.in_channels, *g.in_size)
        current = self.synapses[_key(name)](folded)
        if _key(name) in self.norms:
            current = self.norms[_key(name)](current)
        unfolded: Tensor = current.unflatten(0, (fed.shape[0], -1))
        return unfolded


def _key(name: str) -> str:
    return name.replace(".", "_")


def step(name: str, variant: str, batch: int) -> None:
    """What Nsight Compute watches: forward and backward of one batch, twice before to warm up, in FP16."""
    shape = network(name)
    eager = spikingjelly() if find_spec("spikingjelly") else plain
    net = ShapeNet(shape, eager if variant == "eager" else torch.compile(plain)).cuda().half()
    first = next(iter(shape.layers.values()))
    x = torch.rand(first.steps, batch, first.in_channels, *first.in_size, device="cuda", dtype=torch.float16)
    for watched in (False, False, True):
        net.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if watched:
            torch.cuda.cudart().cudaProfilerStart()
        net(x).float().square().mean().backward()
        torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStop()


def missing() -> str | None:
    """What measuring lacks here, in one line; None if nothing."""
    if not torch.cuda.is_available():
        return "no NVIDIA GPU that torch can use"
    return None if shutil.which("ncu") else "no Nsight Compute: expected `ncu` on the PATH"


def read_counters(text: str) -> tuple[float, float]:
    """Bytes read and written, summed over the kernels of a raw page of Nsight Compute in CSV and base units.

    Raises:
        ValueError: there are no counters in it.
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID"')), None)
    rows = [] if start is None else list(csv.DictReader(io.StringIO("\n".join(lines[start:]))))
    kernels = [row for row in rows if row["ID"]]  # the first row has the units
    if not kernels or any(counter not in kernels[0] for counter in COUNTERS):
        said = next((line for line in lines if "ERR" in line or "==ERROR==" in line), "no kernels")
        raise ValueError(f"expected the counters {' and '.join(COUNTERS)}, got: {said}")
    read, written = (sum(float(row[counter].replace(",", "")) for row in kernels) for counter in COUNTERS)
    return read, written


def measure(name: str, variant: str, batch: int) -> Row:
    """Bytes of one network's step, measured and modelled.

    The cache is left alone between kernels, whose traffic would otherwise be that of a cold one, and the whole program
    runs again where not all counters fit in one pass.
    """
    call = f"from benchmarks.gpu_traffic import step; step({name!r}, {variant!r}, {batch})"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        options = ["--metrics", ",".join(COUNTERS), "--profile-from-start", "off", "--cache-control", "none"]
        options += ["--replay-mode", "application", "--csv", "--page", "raw", "--print-units", "base"]
        command = ["ncu", *options, "--log-file", str(log), sys.executable, "-c", call]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # the log says what went wrong
        text = log.read_text() if log.exists() else ""
    read, written = read_counters(text or done.stdout + done.stderr)
    device = torch.cuda.get_device_properties(0)
    gpu = replace(GPUS["a100_40gb"], name=device.name, l2_bytes=device.L2_cache_size)
    modelled = gpu_bill(network(name), batch, variant, gpu=gpu)
    update = modelled.by_kernel["update"]
    return {
        "part": "measured",
        "gpu": device.name,
        "network": name,
        "variant": variant,
        "batch": batch,
        "read_bytes": read,
        "written_bytes": written,
        "modelled_bytes": modelled.bytes - update,
        "measured_over_modelled": (read + written) / (modelled.bytes - update),
    }


def measured(networks: Mapping[str, int]) -> Iterator[Row]:
    """Rows of all that can be measured here, or one that says why nothing can."""
    reason = missing()
    if reason is None:
        try:
            for name, batch in networks.items():
                for variant in ("eager", "fused"):
                    yield measure(name, variant, batch)
            return
        except ValueError as error:
            reason = str(error)
    print(f"skipped: DRAM bytes were not measured: {reason}")
    yield {"part": "measured", "skipped": reason}


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    rows = [count("plain torch", plain)]
    if find_spec("spikingjelly"):
        rows.append(count("SpikingJelly LIFNode", spikingjelly()))
    rows += measured({"vgg11": 16} if options.quick else NETWORKS)
    musts = []
    for row in rows:
        if "measured_over_modelled" in row:
            name = f"{row['network']}, {row['variant']}: bytes measured over modelled"
            musts += [must(name, row["measured_over_modelled"], ">=", 1 - BAND)]
            musts += [must(name, row["measured_over_modelled"], "<=", 1 + BAND)]
    finish("gpu_traffic", options, (), rows, musts, ["spikingjelly"] if find_spec("spikingjelly") else [])


if __name__ == "__main__":
    main()
