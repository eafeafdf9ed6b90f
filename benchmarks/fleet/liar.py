"""A worker that lies, in one of ten ways. It knows the protocol as well as an honest one: our own client, bent."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from neurofed import tensors
from neurofed.rope import Checksum
from neurofed.v1 import fleet_pb2, records_pb2
from worker.fleet_client import FleetClient, Identity
from worker.jobs import Finished, RunningTask

LATE_S = 6.0
"""How long the late one takes."""

Model = dict[str, tensors.Array]
Answer = tuple[records_pb2.Content, bytes]
_EXAMPLES = 3


def _answer(arrays: Mapping[str, tensors.Array], examples: int = _EXAMPLES) -> Answer:
    """Header and bytes as an honest worker would send them with these arrays."""
    content, blob = records_pb2.Content(array_order=["arrays"]), tensors.pack(arrays)
    content.arrays["arrays"].CopyFrom(tensors.manifest_of(arrays))
    content.metrics["metrics"].values["num-examples"].integer = examples
    content.blob.size_bytes, content.blob.xxh3_128 = len(blob), Checksum(blob).digest()
    return content, blob


def _trained(model: Model, by: float = 1e-3) -> Model:
    return {name: (array + by).astype(array.dtype) for name, array in model.items()}


def _honest(model: Model) -> Answer:
    return _answer(_trained(model))


def _not_finite(model: Model) -> Answer:
    arrays = _trained(model)
    next(iter(arrays.values())).flat[0] = np.nan
    return _answer(arrays)


def _oversized(model: Model) -> Answer:
    content, blob = _honest(model)
    content.arrays["more"].tensors.add(name="more", dtype=records_pb2.ELEMENT_TYPE_UINT8, shape=[1 << 30])
    content.array_order.append("more")
    content.blob.size_bytes += 1 << 30
    return content, blob


def _damaged(model: Model) -> Answer:
    content, blob = _honest(model)
    return content, bytes([blob[0] ^ 1]) + blob[1:]


def _late(model: Model) -> Answer:
    time.sleep(LATE_S)
    return _honest(model)


HONEST, LATE, DUPLICATED, REPLAYED = "honest", "late", "duplicated", "replayed"
_ANSWERS: Mapping[str, Callable[[Model], Answer]] = MappingProxyType(
    {
        HONEST: _honest,
        "not finite": _not_finite,
        "far away": lambda model: _answer(_trained(model, by=50.0)),
        "impossible weight": lambda model: _answer(_trained(model), examples=1 << 40),
        "another shape": lambda model: _answer({name: array.reshape(1, *array.shape) for name, array in model.items()}),
        "tensor missing": lambda model: _answer(dict(list(_trained(model).items())[1:])),
        "oversized": _oversized,
        "damaged": _damaged,
        REPLAYED: _honest,
        DUPLICATED: _honest,
        LATE: _late,
    }
)
KINDS = tuple(kind for kind in _ANSWERS if kind != HONEST)
"""The ten ways to lie."""


class _LyingClient(FleetClient):
    """Answers as its kind does, and what is not in an answer it does with the frames around it."""

    def __init__(self, address: str, name: str, kind: str) -> None:
        self._kind, self._asked = kind, False
        super().__init__(address, Identity(name, "none", 1, ()), partial(_execute, _ANSWERS[kind]))

    def _offer(self, finished: Finished) -> None:
        if self._kind == REPLAYED:
            result = type(finished.result)()
            result.CopyFrom(finished.result)
            result.task_id = f"an-earlier-{result.task_id}"
            finished = replace(finished, result=result)
        super()._offer(finished)
        if self._kind == DUPLICATED:
            super()._offer(finished)

    def _withdraw(self, stream: Any, task_id: str) -> None:
        if self._kind != LATE:  # who is late has not heard
            super()._withdraw(stream, task_id)

    def _ask(self, stream: Any, task: fleet_pb2.Task) -> None:
        if self._kind != LATE or not self._asked:  # nor listened to what came next
            super()._ask(stream, task)
        self._asked = True


def _execute(answer: Callable[[Model], Answer], running: RunningTask) -> Answer:
    (manifest,) = running.task.content.arrays.values()
    return answer(tensors.unpack(manifest, bytes(running.blob)))


def main() -> None:
    """`python -m benchmarks.fleet.liar HOST:PORT NAME KIND`: take part until killed."""
    address, name, kind = sys.argv[1:]
    asyncio.run(_LyingClient(address, name, kind).serve())


if __name__ == "__main__":
    main()
