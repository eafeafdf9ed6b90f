"""The sums in fixed point, and distances, as C kernels, compiled at first use.

Where there is no compiler numpy gives the same bits, see `exact`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro_engine.kernels import build

_SOURCE = Path(__file__).with_name("csrc") / "fixed.c"
_COMPILE_TIMEOUT_S = 60


def add(sums: npt.NDArray[np.int64], values: npt.NDArray[Any], weight: int, first: bool) -> float | None:
    """`sums += weight * round(values * 2^40)` modulo 2^64; the largest magnitude, or None where there is no kernel.

    Args:
        sums: contiguous.
        values: as many, of any type; aligned float32 next to each other are what there is a kernel for.
        weight: a factor that fits 64 bits.
        first: the sums count as 0.

    Raises:
        ValueError: if there are not as many.
    """
    if sums.size != values.size:
        raise ValueError(f"expected as many values as sums, {sums.size}, got {values.size}")
    if not _is_plain(values) or (kernels := library()) is None:
        return None
    bits = kernels.fixed_add(
        ctypes.c_void_p(sums.ctypes.data),
        ctypes.c_void_p(values.ctypes.data),
        ctypes.c_int64(values.size),
        ctypes.c_int64(weight),
        ctypes.c_int32(first),
    )
    return float(np.uint32(bits).view(np.float32))


def scale(sums: npt.NDArray[np.int64], values: npt.NDArray[Any], unit: float) -> bool:
    """`values = sums * unit`, in 64 bits and rounded once; False where there is no kernel.

    Args:
        sums: contiguous.
        values: as many, contiguous; they may take the place of the sums, from the same address or a lower one.
        unit: a factor.
    """
    if values.dtype != np.float32 or (kernels := library()) is None:
        return False
    kernels.fixed_scale(
        ctypes.c_void_p(sums.ctypes.data),
        ctypes.c_void_p(values.ctypes.data),
        ctypes.c_int64(sums.size),
        ctypes.c_double(unit),
    )
    return True


def squared_distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float | None:
    """The sum of the squared differences, in 64 bits; None where there is no kernel for these arrays.

    Raises:
        ValueError: if they are not equally many.
    """
    if one.size != other.size:
        raise ValueError(f"expected arrays of one size, got {one.size} and {other.size}")
    if not (_is_plain(one) and _is_plain(other)) or (kernels := library()) is None:
        return None
    pointers = ctypes.c_void_p(one.ctypes.data), ctypes.c_void_p(other.ctypes.data)
    return float(kernels.squared_distance(*pointers, ctypes.c_int64(one.size)))


def _is_plain(array: npt.NDArray[Any]) -> bool:
    """True for aligned float32 next to each other, which is what there are kernels for."""
    return array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where it is switched off (NEUROFED_KERNELS=reference) or cannot be had."""
    level = build.level()
    if os.environ.get("NEUROFED_KERNELS") == "reference" or level is None:
        return None
    try:
        loaded = ctypes.CDLL(str(_built(level)))
    except (OSError, subprocess.SubprocessError):
        return None
    loaded.fixed_add.restype, loaded.fixed_scale.restype = ctypes.c_uint32, None
    loaded.squared_distance.restype = ctypes.c_double
    return loaded


def _built(level: str) -> Path:
    options = build.options(level)
    digest = hashlib.sha256(" ".join(options).encode() + _SOURCE.read_bytes()).hexdigest()
    folder = build.cache_folder()
    target = folder / f"fixed-{level}-{digest[:12]}.so"
    if target.is_file():
        return target
    compiler = build.compiler()
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / target.name
        command = [compiler, *options, "-o", str(built), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_TIMEOUT_S)
        built.replace(target)  # at once, so that another process never loads half a library
    return target
