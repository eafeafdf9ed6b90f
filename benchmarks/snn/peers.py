"""The other libraries: the same topology from their own layers, run as their documentation runs them on a CPU.

All have LIF neurons with leak 1/2, threshold 1 and hard reset, each library's own surrogate, and batch normalisation
after each convolution. None of them is needed: one that is not installed takes no part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.snn import nets
from benchmarks.snn.nets import Net
from benchmarks.snn.trainers import Activity, MakeOptimizer, sgd

Run = Callable[[nn.Sequential, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Kit:
    """What differs between libraries.

    Attributes:
        layers: a module with layers named and called as those of `torch.nn`.
        neuron: makes the neurons of a layer.
        run: one pass of a model over inputs (T, B, ...), from fresh neurons to logits (B, classes).
    """

    layers: Any
    neuron: Callable[[], nn.Module]
    run: Run


class ResidualBlock(nn.Module):
    """Body plus shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        return self.body(x) + self.shortcut(x)  # type: ignore[no-any-return]


def _conv(kit: Kit, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = kit.layers.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, kit.layers.BatchNorm2d(outputs), kit.neuron()]


def _block(kit: Kit, inputs: int, outputs: int, stride: int) -> nn.Module:
    body = [*_conv(kit, inputs, outputs, stride=stride), *_conv(kit, outputs, outputs)]
    same = inputs == outputs and stride == 1
    shortcut = nn.Identity() if same else nn.Sequential(*_conv(kit, inputs, outputs, 1, stride))
    return ResidualBlock(nn.Sequential(*body), shortcut)


def build(net: Net, kit: Kit) -> nn.Sequential:
    """The net from a library's layers."""
    modules: list[nn.Module] = []
    for layer, inputs in net.walk():
        match layer:
            case nets.Conv(channels):
                modules += _conv(kit, inputs, channels)
            case nets.Block(channels, stride):
                modules.append(_block(kit, inputs, channels, stride))
            case nets.Pool():
                modules.append(kit.layers.MaxPool2d(2))
            case nets.GlobalPool():
                modules.append(kit.layers.AdaptiveAvgPool2d(1))
            case nets.Flatten():
                modules.append(kit.layers.Flatten())
            case nets.Linear(features):
                modules += [kit.layers.Linear(inputs, features), kit.neuron()]
            case nets.Readout(classes):
                modules.append(kit.layers.Linear(inputs, classes))
    return nn.Sequential(*modules)


def _stepwise(model: nn.Sequential, x: Tensor) -> Tensor:
    """The whole net at each time step."""
    return torch.stack([model(frame) for frame in x]).mean(0)


def _spikingjelly() -> Kit:
    """Multi-step mode, torch backend: layers take (T, B, ...)."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def run(model: nn.Sequential, x: Tensor) -> Tensor:
        functional.reset_net(model)
        return model(x).mean(0)  # type: ignore[no-any-return]

    class MultiStep:
        """The library's layers, each in multi-step mode."""

        def __getattr__(self, name: str) -> Any:
            return partial(getattr(layer, name), step_mode="m")

    def lif() -> nn.Module:
        return neuron.LIFNode(2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")  # type: ignore[no-any-return]

    return Kit(MultiStep(), lif, run)


def _snntorch() -> Kit:
    import snntorch
    from snntorch import surrogate, utils

    def run(model: nn.Sequential, x: Tensor) -> Tensor:
        utils.reset(model)
        return _stepwise(model, x)

    def lif() -> nn.Module:
        return snntorch.Leaky(0.5, spike_grad=surrogate.atan(), init_hidden=True, reset_mechanism="zero")  # type: ignore[no-any-return]

    return Kit(nn, lif, run)


class _Stateful(nn.Module):
    """A Norse cell with its state, so that cells may be nested in blocks; Norse's own container does the same."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.state = cell, None

    def forward(self, x: Tensor) -> Tensor:
        """One time step."""
        spikes, self.state = self.cell(x, self.state)
        return spikes  # type: ignore[no-any-return]


def _norse() -> Kit:
    """The box neuron: Norse's LIF without a synaptic current of its own."""
    import norse.torch as norse

    parameters = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0))  # times dt = 1 ms: leak 1/2

    def run(model: nn.Sequential, x: Tensor) -> Tensor:
        for module in model.modules():
            if isinstance(module, _Stateful):
                module.state = None
        return _stepwise(model, x)

    return Kit(nn, lambda: _Stateful(norse.LIFBoxCell(parameters)), run)


def _sinabs() -> Kit:
    """Squeezing neurons: batch and time in one axis, batch first."""
    from sinabs import activation, layers

    def lif() -> nn.Module:
        made = layers.LIFSqueeze(
            tau_mem=1 / math.log(2),
            num_timesteps=1,
            spike_fn=activation.SingleSpike,
            reset_fn=activation.MembraneReset(),
        )
        return made.requires_grad_(False)  # type: ignore[no-any-return]  # leak and threshold are fixed in the others

    def run(model: nn.Sequential, x: Tensor) -> Tensor:
        for module in model.modules():
            if isinstance(module, layers.LIFSqueeze):
                module.reset_states()
                module.num_timesteps = len(x)
        logits = model(x.transpose(0, 1).flatten(0, 1))
        return logits.unflatten(0, (-1, len(x))).mean(1)  # type: ignore[no-any-return]

    return Kit(nn, lif, run)


def _ann() -> Kit:
    """For orientation: rectifiers in the place of neurons, time folded into the batch."""

    def run(model: nn.Sequential, x: Tensor) -> Tensor:
        return model(x.flatten(0, 1)).unflatten(0, (len(x), -1)).mean(0)  # type: ignore[no-any-return]

    return Kit(nn, nn.ReLU, run)


_KITS: Mapping[str, tuple[str, Callable[[], Kit]]] = {
    "SpikingJelly": ("spikingjelly", _spikingjelly),
    "snnTorch": ("snntorch", _snntorch),
    "Norse": ("norse", _norse),
    "Sinabs": ("sinabs", _sinabs),
}
LIBRARIES = tuple(_KITS)
ANN = "ANN twin"


def present() -> dict[str, str]:
    """The package of each library that is installed, by library."""
    return {name: package for name, (package, _) in _KITS.items() if find_spec(package)}


class PeerTrainer:
    """A net in another library; satisfies `trainers.Trainer`."""

    def __init__(self, library: str, net: Net, make_optimizer: MakeOptimizer = sgd) -> None:
        self._kit = _ann() if library == ANN else _KITS[library][1]()
        self.model = build(net, self._kit)
        self._optimizer = make_optimizer(self.model.parameters())

    def forward(self, inputs: Tensor) -> Tensor:
        """See `Trainer`."""
        return self._kit.run(self.model, inputs)

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """See `Trainer`."""
        self._optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.forward(inputs), targets).backward()
        self._optimizer.step()

    def observe(self, inputs: Tensor, targets: Tensor) -> Activity:
        """See `Trainer`; by hooks, which the timed steps do without."""
        spikes, gradients = _Share(), _Share()
        neuron = type(self._kit.neuron())
        with ExitStack() as hooks:
            for name, module in self.model.named_modules():
                if isinstance(module, neuron):
                    hook = module.register_forward_hook(partial(_see_output, spikes, name))
                elif isinstance(module, nn.Conv2d | nn.Linear):
                    hook = module.register_forward_hook(partial(_see_gradient, gradients, name))
                else:
                    continue
                hooks.callback(hook.remove)
            self.step(inputs, targets)
        return Activity(spikes.by_layer(), gradients.by_layer())


class _Share:
    """Which fraction of what was seen is not zero, by layer."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, name: str, values: Tensor) -> None:
        """See the values of a layer."""
        self._seen[name][0] += int(torch.count_nonzero(values))
        self._seen[name][1] += values.numel()

    def by_layer(self) -> dict[str, float]:
        """The fractions."""
        return {name: nonzero / total for name, (nonzero, total) in self._seen.items()}


def _see_output(share: _Share, name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
    share.add(name, output)


def _see_gradient(share: _Share, name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
    output.register_hook(lambda gradient: share.add(name, gradient))
