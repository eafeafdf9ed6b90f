"""What a codec is: the change of a model as few bytes, and back.

A change is a table of float32 arrays by the names of the model's floating tensors, in the order of names, which is the
same at both ends whatever either has read its model from. What a codec
writes can be read with the model alone, so no length in it is trusted: it is compared with what the model allows before
anything of that size is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neurofed.errors import DataError, UpdateError
from neurofed.tensors import BFLOAT16, Array, rope_of

Bytes = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]
Change = dict[str, Vector]
Model = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Context:
    """What an encoding depends on beside the change.

    Attributes:
        key: numbers that name sender and round; all that is drawn at random is drawn from them.
        activity: by tensor, how often its elements have a gradient; empty where nothing was counted.
        memory: what the codec gave its sender to keep at the last encoding.
        turn: a number that is another for each sender of a round, and for each round of a sender.
    """

    key: tuple[int, ...] = ()
    activity: Mapping[str, float] = field(default_factory=dict)
    memory: Model = field(default_factory=dict)
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """A change in few bytes, and what the codec wants back at the sender's next one."""

    body: Bytes
    memory: Mapping[str, Array] = field(default_factory=dict)


class Codec(Protocol):
    """A way of writing changes."""

    @property
    def code(self) -> int:
        """Its number on the wire."""

    @property
    def lossless(self) -> bool:
        """Whether what is read is what was written, to the bit."""

    @property
    def gain(self) -> float:
        """By what the receiver multiplies a change that it averages with those of others."""

    def encode(self, change: Change, context: Context) -> Encoded:
        """Write a change; what is read of it is equal on every machine, as is what is drawn at random."""

    def decode(self, body: Bytes, model: Model) -> Change:
        """Read a change of `model` from bytes that may be anything.

        Raises:
            UpdateError: if they are no encoding of this codec with these settings.
        """


def is_floating(array: Array) -> bool:
    """True for the tensors that a change has; others stay as they are."""
    return bool(np.issubdtype(array.dtype, np.floating)) or array.dtype == BFLOAT16


def floating(model: Model) -> dict[str, Array]:
    """The tensors that a change has, in the order of names."""
    return {name: model[name] for name in sorted(model) if is_floating(model[name])}


def elements(model: Model) -> int:
    """Elements of all tensors that a change has."""
    return sum(array.size for array in floating(model).values())


def difference(after: Model, before: Model) -> Change:
    """What leads from one model to another.

    Raises:
        DataError: if it is not finite.
    """
    change = {}
    for name, array in floating(before).items():
        change[name] = after[name].astype(np.float32) - array.astype(np.float32)
        if not np.isfinite(change[name]).all():
            raise DataError(f"tensor {name!r}: expected a finite change, got NaN or infinity: lower the learning rate")
    return change


def applied(model: Model, change: Change) -> dict[str, Array]:
    """A model after a change; the sum is rounded once to the type of each tensor."""
    with np.errstate(over="ignore"):  # what is infinite is for the aggregation rule to refuse
        return {
            name: (array.astype(np.float32) + change[name]).astype(array.dtype) if name in change else array
            for name, array in model.items()
        }


def digest(model: Model) -> bytes:
    """XXH3 of 128 bits of a model's bytes: tells whether both ends have put together the same."""
    return rope_of({name: model[name] for name in sorted(model)}).checksum()


def require_length(body: Bytes, expected_bytes: int) -> None:
    """Check how long an encoding is.

    Raises:
        UpdateError: if it is longer or shorter.
    """
    if body.size != expected_bytes:
        raise UpdateError(f"expected an encoded update of {expected_bytes} bytes, got {body.size}")


def require_finite(values: npt.NDArray[Any]) -> None:
    """Check numbers that came from the network.

    Raises:
        UpdateError: if one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise UpdateError("expected finite values in an encoded update, got NaN or infinity")


def bytes_of(array: npt.NDArray[Any]) -> Bytes:
    """The bytes of an array, row-major and little-endian."""
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8)


def numbers_of(body: Bytes, dtype: str) -> npt.NDArray[Any]:
    """The inverse of `bytes_of`, where the length is right already."""
    return np.frombuffer(body.tobytes(), dtype)
