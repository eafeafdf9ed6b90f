"""Codecs: how the change of a model crosses the network in few bytes. numpy only: both ends use the same code.

    chosen = codecs.choose("top-k", {"fraction": "0.01"})
    sent = codecs.write(chosen.up, change, round_number, context)      at the worker
    change = codecs.read(chosen.up, sent.body, model, round_number)    at the aggregator, which trusts none of it

What is written begins with a byte that names the codec and four that name the round, little-endian: bytes of another
round or codec are refused, and no two rounds have the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from neurofed.codecs.allocation import ALLOCATIONS
from neurofed.codecs.base import Bytes, Change, Codec, Context, Encoded, Model
from neurofed.codecs.elementwise import Floats, Int8
from neurofed.codecs.lowrank import LowRank
from neurofed.codecs.topk import TopK
from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError, UpdateError, nearest

_HEAD = struct.Struct("<BI")
MAX_RANK = 255
__all__ = ["NAMES", "Codecs", "Context", "Encoded", "Settings", "choose", "read", "write"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `--set codec.KEY=VALUE` may say; keys have `-` for `_`."""

    down: str = "dense"
    """The codec of the way from the aggregator to the workers."""
    feedback: float = 1.0
    """How much of what was not sent a worker adds to its next update; 0.5 where workers take turns, unless it is said:
    what one does not send, others may have sent by its next turn."""
    fraction: float = 0.13
    """`top-k`: the fraction of elements that is sent, of those that a worker looks at."""
    turns: bool = True
    """`top-k`: whether workers take turns, each looking at its share of the elements."""
    allocation: str = "global"
    """`top-k`: how elements are divided over the tensors."""
    rank: int = 2
    """`low-rank`: the rank of an update's matrices."""
    down_fraction: float = 0.12
    """`top-k` on the way down: the fraction of all elements that a change has."""
    down_whole: int = 64
    """`top-k` on the way down: tensors of up to so many elements are sent whole."""
    down_rank: int = 4
    """`low-rank` on the way down: the rank of a change's matrices."""


def _top_k_up(settings: Settings, workers: int) -> Codec:
    turns = workers if settings.turns else 1
    return TopK(3, settings.fraction, settings.allocation, turns=turns, gain=float(turns))


def _top_k_down(settings: Settings) -> Codec:
    return TopK(3, settings.down_fraction, ALLOCATIONS[0], settings.down_whole)


_UP: Mapping[str, Callable[[Settings, int], Codec]] = {
    "dense": lambda _, _workers: Floats(0, "<f4"),
    "fp16": lambda _, _workers: Floats(1, "<f2"),
    "int8": lambda _, _workers: Int8(2),
    "top-k": _top_k_up,
    "low-rank": lambda settings, _: LowRank(4, settings.rank),
}
_DOWN: Mapping[str, Callable[[Settings], Codec | None]] = {
    "dense": lambda _: None,
    "fp16": lambda _: Floats(1, "<f2"),
    "int8": lambda _: Int8(2),
    "top-k": _top_k_down,
    "low-rank": lambda settings: LowRank(4, settings.down_rank),
}
NAMES = tuple(_UP)
"""All codecs, the default first, as `neurofed.spec.CODECS` lists them."""
_FEEDBACK_OF_TURNS = 0.5
_TYPES: Mapping[type, Callable[[str], Any]] = {int: int, float: float, str: str}
_OF_ONE = {"fraction": "top-k", "turns": "top-k", "allocation": "top-k", "rank": "low-rank"}
_OF_ONE_DOWN = {"down-fraction": "top-k", "down-whole": "top-k", "down-rank": "low-rank"}


@dataclass(frozen=True, slots=True)
class Codecs:
    """What a run has chosen.

    Attributes:
        up: the codec of updates.
        down: the codec of the model on its way to the workers; None sends the model itself.
        feedback: how much of what was not sent a worker adds to its next update.
        plain: nothing is encoded in either direction: models go up and down as they are.
    """

    up: Codec
    down: Codec | None
    feedback: float
    plain: bool


def choose(name: str, settings: Mapping[str, str], workers: int = 1) -> Codecs:
    """The codecs of a run.

    Args:
        name: one of `NAMES`, of the way up.
        settings: text by key.
        workers: how many have a part in a round.

    Raises:
        UnknownNameError: if there is no such codec.
        UnknownSettingError: if a key is unknown, or of a codec that was not chosen.
        ConfigError: if a value does not have its setting's type or range.
    """
    chosen = _parsed(settings)
    for direction in (name, chosen.down):
        if direction not in NAMES:
            raise UnknownNameError(f"codec {direction!r}: {nearest(direction, NAMES)}")
    for key in settings:
        needed, got = _OF_ONE.get(key, name), name
        if key in _OF_ONE_DOWN:
            needed, got = _OF_ONE_DOWN[key], chosen.down
        if needed != got:
            raise UnknownSettingError(f"setting {key!r} is of the codec {needed!r}, got {got!r}")
    up, down = _UP[name](chosen, workers), _DOWN[chosen.down](chosen)
    feedback = chosen.feedback if "feedback" in settings or up.gain == 1.0 else _FEEDBACK_OF_TURNS
    return Codecs(up, down, 0.0 if up.lossless else feedback, up.lossless and down is None)


def write(codec: Codec, change: Change, round_number: int, context: Context) -> Encoded:
    """A change as bytes, see the module."""
    encoded = codec.encode({name: change[name] for name in sorted(change)}, context)
    head = np.frombuffer(_HEAD.pack(codec.code, round_number), np.uint8)
    return replace(encoded, body=np.concatenate([head, encoded.body]))


def read(codec: Codec, data: Bytes, model: Model, round_number: int) -> Change:
    """A change from bytes that may be anything.

    Args:
        codec: what it was written with, settings included.
        data: the bytes.
        model: the model whose change it is.
        round_number: the round it is of.

    Raises:
        UpdateError: if it is no change of this model, in this round, by this codec.
    """
    if data.dtype != np.uint8 or data.ndim != 1 or data.size < _HEAD.size:
        raise UpdateError(f"expected an encoded update in a row of bytes, got {data.dtype} {list(data.shape)}")
    code, number = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if (code, number) != (codec.code, round_number):
        raise UpdateError(
            f"expected an update of codec {codec.code} and round {round_number}, got one of {code} and {number}"
        )
    return codec.decode(data[_HEAD.size :], model)


def _parsed(settings: Mapping[str, str]) -> Settings:
    keys = {field.name.replace("_", "-"): field.name for field in fields(Settings)}
    values: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in keys:
            raise UnknownSettingError(f"no setting {key!r}: {nearest(key, keys)}")
        values[keys[key]] = _value(key, text, getattr(Settings(), keys[key]))
    parsed = Settings(**values)
    for key in ("fraction", "down-fraction"):
        _require(key, 0.0 < getattr(parsed, keys[key]) <= 1.0, "a number in (0, 1]", settings)
    for key in ("rank", "down-rank"):
        _require(key, 1 <= getattr(parsed, keys[key]) <= MAX_RANK, f"1 to {MAX_RANK}", settings)
    _require("feedback", 0.0 <= parsed.feedback <= 1.0, "a number in [0, 1]", settings)
    _require("down-whole", parsed.down_whole >= 0, "a whole number of at least 0", settings)
    _require("allocation", parsed.allocation in ALLOCATIONS, f"one of {', '.join(ALLOCATIONS)}", settings)
    return parsed


def _value(key: str, text: str, default: object) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return _TYPES[type(default)](text)
    except (ValueError, KeyError):
        expected = "true or false" if isinstance(default, bool) else f"a {type(default).__name__}"
        raise ConfigError(f"{key}: expected {expected}, got {text!r}") from None


def _require(key: str, holds: bool, expected: str, settings: Mapping[str, str]) -> None:
    if not holds:
        raise ConfigError(f"{key}: expected {expected}, got {settings.get(key)!r}")
