"""Composition: layers in a row, and residual blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor, nn

from neuro_engine.layers.base import follow

Connect = Literal["add", "and", "iand"]


class Chain(nn.ModuleDict):
    """Named layers, one after the other.

    Args:
        layers: the layers by name, in order.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to the output of the last layer."""
        for layer in self.values():
            x = layer(x)
        return x

    def follow(self, values: bool) -> bool:
        """Layer by layer."""
        for layer in self.values():
            values = follow(layer, values)
        return values


def _chain(layers: nn.Module | Mapping[str, nn.Module]) -> nn.Module:
    return layers if isinstance(layers, nn.Module) else Chain(layers)


class Residual(nn.Module):
    """A block with a shortcut: g(A, S) of the body's spikes A and the shortcut's S (SEW ResNet, Fang et al. 2021).

    | connect | g(A, S) | output |
    |---|---|---|
    | "add" | A + S | counts 0, 1, 2, ..., which the next layer is charged for as values |
    | "and" | A S | spikes |
    | "iand" | (1 - A) S | spikes; the identity where the body is silent |

    Args:
        body: a module, or layers by name.
        shortcut: a module, or layers by name; None passes the input on.
        connect: the function g.

    Raises:
        ValueError: if there is no such function.
    """

    def __init__(
        self,
        body: nn.Module | Mapping[str, nn.Module],
        shortcut: nn.Module | Mapping[str, nn.Module] | None = None,
        connect: Connect = "add",
    ) -> None:
        super().__init__()
        if connect not in get_args(Connect):
            raise ValueError(f"expected a connection of {sorted(get_args(Connect))}, got {connect!r}")
        self.body, self.connect = _chain(body), connect
        self.shortcut = nn.Identity() if shortcut is None else _chain(shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to the block's output (T, B, ...).

        Raises:
            ValueError: if body and shortcut differ in shape.
        """
        a, s = self.body(x), self.shortcut(x)
        if a.shape != s.shape:
            raise ValueError(
                f"Residual: expected a shortcut of the body's shape {tuple(a.shape)}, got {tuple(s.shape)}"
            )
        if self.connect == "add":
            return a + s  # type: ignore[no-any-return]
        return a * s if self.connect == "and" else (1 - a) * s  # type: ignore[no-any-return]

    def follow(self, values: bool) -> bool:
        """A sum is a value."""
        branches = [follow(self.body, values), follow(self.shortcut, values)]
        return self.connect == "add" or any(branches)
