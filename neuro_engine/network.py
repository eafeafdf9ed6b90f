"""A spiking network: named layers in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from neuro_engine.layers import EngineLayer
from neuro_engine.trace import Trace


class SpikingNetwork(nn.Module):
    """Layers that run one after the other. `state_dict` keys are `layers.NAME.PARAMETER`.

    Args:
        layers: the layers by name, in order; the names appear in traces and reports.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        for name, layer in self.engine_layers():
            layer.name = name

    def engine_layers(self) -> Iterator[tuple[str, EngineLayer]]:
        """The layers that run on the engines, with their names."""
        for name, layer in self.layers.items():
            if isinstance(layer, EngineLayer):
                yield name, layer

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to the output of the last layer."""
        for layer in self.layers.values():
            x = layer(x)
        return x

    @contextmanager
    def recording(self, trace: Trace | None) -> Iterator[None]:
        """Count into `trace` what the engines do inside the block; None counts nothing."""
        for _, layer in self.engine_layers():
            layer.trace = trace
        try:
            yield
        finally:
            for _, layer in self.engine_layers():
                layer.trace = None
