"""Weighted sums that are exact: the same updates give the same bits in any order.

Floating-point sums depend on their order. Here each value is rounded once to fixed point, q = round(x 2^40), and the
sum of weight * q is taken in whole numbers, where addition is associative. The rounding error, 2^-41 per value, is
below that of the 32-bit result for any |x| > 2^-17.

Nothing overflows: |x| <= 64 is required of every value, and 64 * 2^40 * 2^17 is the most that 64 bits take. Where the
weights of a round come to more, the sums move into a second, upper word from time to time; carries are exact too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from neurofed.errors import UpdateError
from server.aggregation import native
from server.aggregation.base import MAX_EXAMPLES, Array, Model, floating, pieces, require_bounded, require_same

FRACTION_BITS = 40
LOW_BITS = 46
"""64 * 2^40 = 2^46: one value of weight 1 fits the lower word."""
LOW_WEIGHT = (1 << 17) - 2
"""Weights until the lower word, which holds at most 2^46 to begin with, could overflow."""
_SHIFTER = np.float64(1.5 * 2**52)
_SHIFTER_BITS = _SHIFTER.view(np.int64)

Wide = npt.NDArray[np.float64]
Step = Callable[[str, slice, Wide], Array]
"""New values of a piece of a tensor: given its name, which piece, and the mean there."""


class ExactSum:
    """Sums over arrays like those of `model` that are averaged.

    Args:
        model: what the arrays look like; its other arrays pass through.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.weight = 0
        self._like = floating(model)
        self._low = np.empty(sum(array.size for array in self._like.values()), np.int64)
        self._untouched = True
        self._high: npt.NDArray[np.int32] | None = None
        self._room = LOW_WEIGHT

    def add(self, arrays: Model, weight: int) -> None:
        """Add `weight` times `arrays`.

        Raises:
            UpdateError: if they do not look like the model, or a value is NaN or too large; nothing is added then.
        """
        require_same(arrays, self.model)
        if not 1 <= weight <= MAX_EXAMPLES - self.weight:
            raise UpdateError(f"expected a weight of 1 to {MAX_EXAMPLES - self.weight}, got {weight}")
        values = self._flat(arrays)
        share = self._share(weight)
        self._add_checked(values, share)
        self._room -= share
        left = weight - share
        while left:
            share = self._share(left)
            self._add(values, share)
            self._room -= share
            left -= share
        self.weight += weight

    def take_back(self, arrays: Model, weight: int) -> None:
        """Undo an `add` of not more than `LOW_WEIGHT`."""
        self._add(self._flat(arrays), -weight)
        self.weight -= weight

    def settle(self, step: Step | None = None) -> dict[str, Array]:
        """The mean, or what `step` makes of it, in the place of the sums: there is nothing left to add to.

        Raises:
            UpdateError: if nothing was added.
        """
        if not self.weight:
            raise UpdateError("expected at least one update, got none")
        if self._high is not None:
            self._carry()  # how the sum is spread over the two words no longer depends on the order
        start, used, places = 0, 0, {}
        for name, like in self._like.items():
            # No element takes more bytes than its sum did, so what is written never reaches sums still to be read.
            places[name] = used
            stop = start + like.size
            self._settle(name, slice(start, stop), self._place(used, like), step)
            start, used = stop, used + -(-like.nbytes // self._low.itemsize)
        self._low.resize(used, refcheck=False)
        self.weight = 0
        arrays = {
            name: self._place(at, self._like[name]).reshape(self._like[name].shape) for name, at in places.items()
        }
        return {name: arrays.get(name, like) for name, like in self.model.items()}

    def _place(self, start: int, like: Array) -> Array:
        """The memory of sums from `start` on, for values of another type."""
        stop = start + -(-like.nbytes // self._low.itemsize)
        return self._low[start:stop].view(like.dtype)[: like.size]

    def _settle(self, name: str, where: slice, values: Array, step: Step | None) -> None:
        unit = 2.0**-FRACTION_BITS / self.weight
        low, high = self._low[where], None if self._high is None else self._high[where]
        if step is None and high is None and native.scale(low, values, unit):
            return
        for piece in pieces(low.size):
            mean = low[piece].astype(np.float64)
            if high is not None:  # neither word was rounded yet, so their sum is rounded once, as that of one word is
                mean += high[piece] * 2.0**LOW_BITS
            mean *= unit
            values[piece] = mean if step is None else step(name, piece, mean)

    def _flat(self, arrays: Model) -> list[Array]:
        return [np.ascontiguousarray(arrays[name]).reshape(-1) for name in self._like]

    def _add(self, values: list[Array], weight: int) -> list[float]:
        """Add to the lower word; the largest magnitude of each."""
        stops = np.cumsum([one.size for one in values])
        largest = [
            _add(self._low[stop - one.size : stop], one, weight, self._untouched)
            for one, stop in zip(values, stops, strict=True)
        ]
        self._untouched = False
        return largest

    def _add_checked(self, values: list[Array], weight: int) -> None:
        """Add and look at the values in one pass; if they turn out to be bad they are taken out again."""
        largest = self._add(values, weight)
        try:
            for name, magnitude in zip(self._like, largest, strict=True):
                require_bounded(name, magnitude)
        except UpdateError:
            self._add(values, -weight)
            raise

    def _share(self, weight: int) -> int:
        """How much of `weight` the lower word takes now, after it was emptied if need be."""
        if not self._room:
            self._carry()
        return min(weight, self._room)

    def _carry(self) -> None:
        """Move all but the lowest bits into the upper word."""
        if self._high is None:
            self._high = np.zeros(self._low.size, np.int32)
        for piece in pieces(self._low.size):
            self._high[piece] += (self._low[piece] >> LOW_BITS).astype(np.int32)
            self._low[piece] &= (1 << LOW_BITS) - 1
        self._room = LOW_WEIGHT


def _add(sums: npt.NDArray[np.int64], values: Array, weight: int, first: bool) -> float:
    """`sums += weight * round(values 2^40)` modulo 2^64; the largest magnitude of the values, NaN if one is NaN."""
    largest = native.add(sums, values, weight, first)
    return _add_numpy(sums, values, weight, first) if largest is None else largest


def _add_numpy(sums: npt.NDArray[np.int64], values: Array, weight: int, first: bool) -> float:
    """What the kernel does, with the same bits: see csrc/fixed.c."""
    tops: list[float] = [0.0]
    with np.errstate(all="ignore"):
        for piece in pieces(values.size, 1 << 14):
            wide = values[piece].astype(np.float64)
            tops.append(float(np.abs(wide).max()))
            wide *= 2.0**FRACTION_BITS
            wide += _SHIFTER
            fixed = wide.view(np.int64)
            fixed -= _SHIFTER_BITS
            fixed *= weight
            sums[piece] = fixed if first else sums[piece] + fixed
    return float(np.max(tops))
