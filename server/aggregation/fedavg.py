"""Federated averaging (McMahan et al. 2017), exact under any order of arrival.

Floating-point sums depend on their order. Here each value is rounded once to fixed point, q = round(x 2^40), and the
sum over updates of examples * q is taken in 64-bit integers, where addition is associative: the same updates give the
same bits in any order. The rounding error, 2^-41 per value, is below that of the 32-bit result for any |x| > 2^-17.

No sum can overflow: |x| <= 64 and a round's examples < 2^17 are required of every update by itself, so whether an
update is refused does not depend on the others either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofed.errors import UpdateError
from server.aggregation.base import Model, Rule, Update, is_floating

FRACTION_BITS = 40
MAX_ABS = 64.0
MAX_EXAMPLES = (1 << 17) - 1
"""64 * 2^40 * MAX_EXAMPLES < 2^63: the largest sum fits."""


@dataclass(slots=True)
class Average:
    """State of a round: sums in fixed point.

    Attributes:
        model: the global model the round began with.
        sums: sum of examples * round(x 2^40) by name, int64.
        examples: sum of the updates' examples.
        max_examples: the most one update may claim.
    """

    model: Model
    sums: dict[str, npt.NDArray[np.int64]]
    examples: int
    max_examples: int


def _init(model: Model, workers: int) -> Average:
    sums = {name: np.zeros(array.shape, np.int64) for name, array in model.items() if is_floating(array)}
    return Average(model, sums, 0, MAX_EXAMPLES // max(1, workers))


def _add(state: Average, update: Update) -> Average:
    if not 1 <= update.examples <= state.max_examples:
        raise UpdateError(f"expected 1 to {state.max_examples} examples, got {update.examples}")
    if update.model.keys() != state.model.keys():
        raise UpdateError(f"expected the tensors {sorted(state.model)}, got {sorted(update.model)}")
    for name in state.sums:
        _screen(name, update.model[name], state.model[name])
    for name in state.sums:
        fixed = np.rint(np.ldexp(update.model[name].astype(np.float64), FRACTION_BITS)).astype(np.int64)
        state.sums[name] += fixed * update.examples
    state.examples += update.examples
    return state


def _screen(name: str, array: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    if (array.shape, array.dtype) != (expected.shape, expected.dtype):
        raise UpdateError(
            f"tensor {name!r}: expected {expected.dtype} of shape {expected.shape}, got {array.dtype} of {array.shape}"
        )
    largest = float(np.abs(array).max(initial=0.0))
    if not np.isfinite(largest):
        raise UpdateError(f"tensor {name!r}: expected finite values, got NaN or infinity")
    if largest > MAX_ABS:
        raise UpdateError(f"tensor {name!r}: expected values of at most {MAX_ABS:g}, got {largest:g}")


def _finish(state: Average) -> Model:
    if not state.examples:
        raise UpdateError("expected at least one update, got none")
    scale = np.ldexp(1.0, -FRACTION_BITS) / state.examples
    return {
        name: (state.sums[name] * scale).astype(array.dtype) if name in state.sums else array
        for name, array in state.model.items()
    }


FEDAVG: Rule[Average] = Rule("fedavg", _init, _add, _finish)
