"""Loading the kernels of `csrc` and calling them.

Each call asks `library` of this module anew, so another library takes effect when it is put in its place here.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neuro_engine.kernels import build


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where there are none for this machine (`missing` says why)."""
    path, _ = build.find()
    try:
        return ctypes.CDLL(str(path)) if path else None
    except OSError:  # damaged, or linked with what this machine lacks: torch still runs
        return None


def missing() -> str:
    """Why there are no kernels."""
    path, why = build.find()
    return f"cannot load {path}" if path else why


def kernel(name: str) -> ctypes._NamedFuncPointer:
    """A kernel by its name in `csrc`.

    Raises:
        RuntimeError: if there are no kernels.
    """
    loaded = library()
    if loaded is None:
        raise RuntimeError(f"no kernels: {missing()}")
    function = loaded[name]
    function.__name__ = name
    return function


def call(function: Callable[..., int], *arguments: Any, tasks: int) -> None:
    """Run a kernel on torch's number of threads, or as many as there are tasks; ctypes lets go of the GIL meanwhile."""
    if function(*arguments, max(1, min(torch.get_num_threads(), tasks))):
        raise MemoryError(f"{function.__name__}: not enough memory for scratch space")


def pointer(x: Tensor | None) -> ctypes.c_void_p | None:
    """Where a tensor's values are; None for none."""
    return None if x is None else ctypes.c_void_p(x.data_ptr())


def int64(x: int) -> ctypes.c_int64:
    """An extent, as the kernels take it."""
    return ctypes.c_int64(x)
