"""A model's state as numpy arrays by name: what travels between worker and aggregator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn


def state_arrays(model: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """A copy of the model's `state_dict`, in its order."""
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def load_state(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy arrays into the model; names and shapes must be exactly the model's own.

    Raises:
        RuntimeError: if they are not (torch's own message names them).
    """
    own = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    if {name: array.shape for name, array in arrays.items()} == {name: array.shape for name, array in own.items()}:
        for name, array in own.items():
            np.copyto(array, arrays[name], casting="same_kind")  # straight into torch's memory
        return
    import torch

    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, strict=True)


@contextlib.contextmanager
def on_loan(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[None]:
    """Have the model take memory, and these values, for as long as the context lasts; it is released afterwards.

    Raises:
        RuntimeError: if names or shapes are not the model's own.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in arrays and not tensor.numel():
            tensor.data = tensor.data.new_empty(arrays[name].shape)
    load_state(model, arrays)
    try:
        yield
    finally:
        release(model)


def release(model: nn.Module) -> None:
    """Give back the memory of the model's state, until `on_loan` gives it values again."""
    for tensor in model.state_dict(keep_vars=True).values():
        tensor.data = tensor.data.new_empty(0)
