"""A model's state as numpy arrays by name: what travels between worker and aggregator."""

from __future__ import annotations

from collections.abc import Mapping
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
    import torch

    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, strict=True)
