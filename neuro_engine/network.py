"""A spiking network: named layers in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from neuro_engine.layers import Chain, EngineLayer, engine_layers
from neuro_engine.precision import precision
from neuro_engine.trace import Trace


class SpikingNetwork(nn.Module):
    """Layers that run one after the other. `state_dict` keys are `layers.NAME.PARAMETER`.

    Args:
        layers: the layers by name, in order; the names appear in traces and reports, those of nested layers with dots
            ("block1.body.conv1").
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = Chain(layers)
        self.layers.follow(False)
        for name, layer in self.engine_layers():
            layer.name = name

    def engine_layers(self) -> Iterator[tuple[str, EngineLayer]]:
        """The layers that run on the engines, nested ones too, with their names."""
        return engine_layers(self.layers)

    def set_precision(self, name: str) -> None:
        """Let the engines store numbers in the format of a name, see `neuro_engine.precision`.

        Raises:
            ValueError: if there is none of that name.
        """
        chosen = precision(name)
        for _, layer in self.engine_layers():
            layer.precision = chosen

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to the output of the last layer."""
        return self.layers(x)  # type: ignore[no-any-return]

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
