"""What maps have to be before a kernel sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VALUES = (torch.float32, torch.float16)
_MOST_PIXELS = 2**31


def pixels(shape: Sequence[int]) -> int:
    """Pixels of a map: N H W."""
    return int(torch.Size((shape[0], *shape[2:])).numel())


def check(name: str, x: Tensor, dims: Sequence[int], dtypes: Sequence[torch.dtype]) -> Tensor:
    """The tensor with its channels next to each other."""
    if x.dim() not in dims or x.dtype not in dtypes or x.device.type != "cpu":
        raise ValueError(
            f"{name}: expected a CPU tensor of {' or '.join(map(str, dims))} dimensions and "
            f"{' or '.join(map(str, dtypes))}, got {tuple(x.shape)} {x.dtype} on {x.device}"
        )
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def check_shape(name: str, shape: Sequence[int], n: int, c: int, h: int, w: int) -> None:
    """Raise ValueError unless `shape` is (n, c, h, w), or (n, c) where h = w = 1."""
    if tuple(shape) != (n, c, h, w) and (tuple(shape), h, w) != ((n, c), 1, 1):
        raise ValueError(f"{name}: expected a map of {(n, c, h, w)}, got {tuple(shape)}")
    if pixels(shape) >= _MOST_PIXELS:
        raise ValueError(f"{name}: expected fewer than {_MOST_PIXELS} pixels, got a map of {tuple(shape)}")


def by_channel(name: str, x: Tensor | None, c: int) -> Tensor | None:
    """One number for each of `c` channels, or None."""
    if x is not None and (tuple(x.shape) != (c,) or x.dtype != torch.float32):
        raise ValueError(f"{name}: expected float32 ({c},), got {x.dtype} {tuple(x.shape)}")
    return None if x is None else x.detach().contiguous()
