"""Models as vectors of whole numbers modulo 2^64, so that masks are exact and the sum is that of the open rule.

Element by element examples * round(x 2^40), as `server.aggregation.exact` sums them, and the examples themselves at the
end: the aggregator learns how many there are in all. 32 bits would halve the bytes, but a sum over thousands of
examples would leave 16 of them for the value: another, coarser result than without masks.

What is masked wraps unseen, so it is made sure beforehand that the true sum does not: each of n workers keeps to
2^63 / n, and who cannot does not send.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np

from neurofed.errors import UpdateError
from neurofed.secagg.keystream import Words
from neurofed.tensors import Array

FRACTION_BITS = 40
MAX_ABS = 64.0
"""As in `server.aggregation`; a test keeps them equal."""
MAX_EXAMPLES = 1 << 22
"""The most examples of one worker, as there."""
_PIECE = 1 << 16


def averaged(model: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors that are in the vector, those of floating point, by the order of their names."""
    floating = {n: a for n, a in model.items() if np.issubdtype(a.dtype, np.floating) or a.dtype == ml_dtypes.bfloat16}
    return dict(sorted(floating.items()))


def length(model: Mapping[str, Array]) -> int:
    """Elements of the vector."""
    return sum(array.size for array in averaged(model).values()) + 1


def weighted(model: Mapping[str, Array], examples: int, workers: int) -> Words:
    """A model as a vector.

    Args:
        model: a worker's.
        examples: the number of examples it saw.
        workers: how many vectors may be summed up.

    Returns:
        (parameters + 1,) integers in two's complement.

    Raises:
        UpdateError: without examples, with values that are no numbers or above 64, or if the sum could overflow.
    """
    if not 1 <= examples <= MAX_EXAMPLES:
        raise UpdateError(f"expected 1 to {MAX_EXAMPLES} examples, got {examples}")
    vector, start, largest = np.empty(length(model), np.int64), 0, 0.0
    for name, array in averaged(model).items():
        flat = np.ascontiguousarray(array).reshape(-1)
        for first in range(0, flat.size, _PIECE):
            wide = flat[first : first + _PIECE].astype(np.float64)
            top = float(np.abs(wide).max())
            if not top <= MAX_ABS:  # nor is NaN
                raise UpdateError(f"tensor {name!r}: expected values of at most {MAX_ABS:g}, got {top:g}")
            largest = max(largest, top)
            vector[start : start + wide.size] = np.rint(wide * 2.0**FRACTION_BITS)
            start += wide.size
    most = ((1 << 63) - 1) // workers
    if int(np.rint(largest * 2.0**FRACTION_BITS)) * examples > most:
        raise UpdateError(
            f"{examples} examples of values up to {largest:.3g} could overflow a sum of {workers} masked updates: "
            f"expected at most {most >> FRACTION_BITS} together: train on fewer examples a round"
        )
    vector[:-1] *= examples
    vector[-1] = examples
    return vector.view(np.uint64)
