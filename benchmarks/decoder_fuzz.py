"""Hostile bytes against the decoder: what a worker may send, from frames to arrays, must be refused or understood.

An input is a sequence of frames. It takes the way of a real upload: protocol buffers, the check of the result against
its task, chunks, digest, manifest, Flower's records. Anything but one of our own errors is a crash; memory beyond the
budget is counted by tracing every allocation. `tests/fuzz/fuzz_decoder.py` gives the same function to atheris.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import google_crc32c
import ml_dtypes
import numpy as np
from google.protobuf.message import DecodeError

from benchmarks.common import arguments, finish, must
from neurofed import flower, framing, tensors, transfer
from neurofed.errors import DataError
from neurofed.framing import read_frame
from neurofed.rope import Checksum
from neurofed.transfer import Sending
from neurofed.v1 import fleet_pb2, records_pb2
from server.intake import Intake

INPUTS, QUICK_INPUTS, SEED = 1_000_000, 20_000, 6
BUDGET_BYTES = 1 << 20
"""Inputs are a few KiB; nothing in them may make us take more than this."""
_CHUNK_BYTES = 64
"""So that small blobs have many chunks."""
_MAX_INPUT_BYTES = 1 << 13
_LENGTH_BYTES = 2

_RNG = np.random.default_rng(0)
MODEL: dict[str, tensors.Array] = {
    "a": _RNG.normal(size=(4, 5)).astype(np.float32),
    "b": _RNG.normal(size=7).astype(np.float16),
    "c": _RNG.normal(size=3).astype(ml_dtypes.bfloat16),
    "d": np.arange(6, dtype=np.int64).reshape(2, 3),
    "e": np.arange(9, dtype=np.uint8),
    "f": np.zeros((0, 3), np.float32),
    "g": np.array(1.5, np.float32),
}


def _content(model: dict[str, tensors.Array]) -> tuple[records_pb2.Content, bytes]:
    content, blob = records_pb2.Content(array_order=["arrays"]), tensors.pack(model)
    content.arrays["arrays"].CopyFrom(tensors.manifest_of(model))
    content.metrics["metrics"].values["num-examples"].integer = 48
    content.metrics["metrics"].values["loss"].number = 0.5
    content.configs["config"].values["text"].text = "text"
    content.blob.size_bytes, content.blob.xxh3_128 = len(blob), Checksum(blob).digest()
    return content, blob


TASK = fleet_pb2.Task(task_id="run/1/train/w", run_id="run", round=1, kind="train", content=_content(MODEL)[0])


# -- the target


def one_input(data: bytes) -> str:
    """Decode an input; returns how it ended. Raises what is a crash."""
    before, transfer.CHUNK_BYTES = framing.CHUNK_BYTES, _CHUNK_BYTES  # type: ignore[attr-defined]
    try:
        return _decode(split(data))
    except DecodeError:
        return "malformed"
    except DataError as error:
        return type(error).__name__
    finally:
        transfer.CHUNK_BYTES = before  # type: ignore[attr-defined]


def _decode(frames: Iterable[bytes]) -> str:
    intake, sending = Intake("w"), Sending(TASK.task_id, TASK.content.blob.size_bytes)
    for data in frames:
        frame = read_frame(fleet_pb2.WorkRequest, data)
        request = frame.message
        if frame.chunk:
            intake.add(frame.chunk, frame.size_bytes)
        match frame.kind:
            case "result" if request.result.HasField("content"):
                intake.open(TASK, request.result, frame.size_bytes)
            case "received":
                sending.acknowledge(request.received.offset, request.received.limit)
                sending.take()
        if delivery := intake.take():
            flower.records_of(delivery.result.content, delivery.blob)
            return "understood"
    return "incomplete"


def chunk_at(blob: bytes | bytearray, offset: int) -> fleet_pb2.Chunk:
    """A small chunk, as the target expects it."""
    data = bytes(blob[offset : offset + _CHUNK_BYTES])
    return fleet_pb2.Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))


def join(frames: Iterable[bytes]) -> bytes:
    """Frames as one input."""
    return b"".join(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame for frame in frames if len(frame) < 1 << 16)


def split(data: bytes) -> Iterator[bytes]:
    """An input as frames."""
    while data:
        size = int.from_bytes(data[:_LENGTH_BYTES], "big")
        yield data[_LENGTH_BYTES : _LENGTH_BYTES + size]
        data = data[_LENGTH_BYTES + size :]


# -- the driver


class Mutator:
    """Makes inputs: valid uploads with something changed, at the level of fields, of frames or of bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 (repeatable, no secret)
        self._changes: tuple[Callable[[fleet_pb2.Result, bytearray], None], ...] = (
            *(
                self._change_spec,
                self._change_specs,
                self._change_announcement,
                self._change_records,
                self._change_order,
            ),
            *(self._change_blob, self._add_record),
        )

    def input(self) -> bytes:
        """The next input."""
        if self._random.random() < 0.02:
            return self._random.randbytes(self._random.randrange(200))
        frames = self._frames()
        if self._random.random() < 0.4:
            frames = self._shuffled(frames)
        data = join(frames)
        if self._random.random() < 0.3:
            data = self._bytes_changed(data)
        return data[:_MAX_INPUT_BYTES]

    def _frames(self) -> list[bytes]:
        content, packed = _content(MODEL)
        result, blob = fleet_pb2.Result(task_id=TASK.task_id, content=content), bytearray(packed)
        for _ in range(self._random.choice((0, 1, 1, 2))):
            self._random.choice(self._changes)(result, blob)
        if self._random.random() < 0.6:  # consistent lies get farther
            announced = result.content.blob
            announced.size_bytes, announced.xxh3_128 = len(blob), Checksum(blob).digest()
        frames = [fleet_pb2.WorkRequest(result=result)]
        for offset in range(0, len(blob), _CHUNK_BYTES):
            frames.append(fleet_pb2.WorkRequest(chunk=chunk_at(blob, offset)))
            if self._random.random() < 0.02:
                self._spoil(frames[-1].chunk)
        return [frame.SerializeToString() for frame in frames]

    def _spoil(self, chunk: fleet_pb2.Chunk) -> None:
        match self._random.randrange(4):
            case 0:
                chunk.offset = self._integer()
            case 1:
                chunk.crc32c ^= 1 << self._random.randrange(32)
            case 2:
                chunk.data = chunk.data[: self._random.randrange(_CHUNK_BYTES)]
            case _:
                chunk.data += b"x"

    def _integer(self) -> int:
        """A number from where numbers are dangerous."""
        near = self._random.choice((0, 1, 1 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1))
        return max(-(1 << 63), min((1 << 63) - 1, self._random.choice((-1, 1)) * near + self._random.randint(-2, 2)))

    def _change_spec(self, result: fleet_pb2.Result, _: bytearray) -> None:
        specs = result.content.arrays["arrays"].tensors
        spec = self._random.choice(specs) if specs else specs.add()
        match self._random.randrange(4):
            case 0:
                spec.name = self._random.choice(("", "a", "z", "x" * 600, "\ud7ff"))
            case 1:
                spec.dtype = self._random.randrange(-1, 9)  # type: ignore[assignment]
            case 2:
                spec.shape.append(self._integer())
            case _:
                spec.shape[:] = [self._integer() for _ in range(self._random.randrange(10))]

    def _change_specs(self, result: fleet_pb2.Result, _: bytearray) -> None:
        specs = result.content.arrays["arrays"].tensors
        if specs and self._random.random() < 0.5:
            del specs[self._random.randrange(len(specs))]
        else:
            specs.add(name=f"n{self._random.randrange(9)}", dtype=1, shape=[self._random.randrange(4)])

    def _change_announcement(self, result: fleet_pb2.Result, _: bytearray) -> None:
        if self._random.random() < 0.5:
            result.content.blob.size_bytes = self._integer()
        else:
            result.content.blob.xxh3_128 = self._random.randbytes(self._random.choice((0, 15, 16, 17)))

    def _change_records(self, result: fleet_pb2.Result, _: bytearray) -> None:
        name = self._random.choice(("metrics", "config", "arrays", ""))
        records = self._random.choice((result.content.metrics, result.content.configs))
        value = records[name].values[self._random.choice(("loss", "num-examples", "", "\0"))]
        match self._random.randrange(7):
            case 0:
                value.number = self._random.choice((float("nan"), float("inf"), -0.0, 1e308))
            case 1:
                value.integer = self._integer()
            case 2:
                value.data = self._random.randbytes(20)
            case 3:
                value.numbers.values.extend([float("nan")] * self._random.randrange(50))
            case 4:
                value.integers.values.extend([self._integer()] * self._random.randrange(50))
            case 5:
                value.flag = True
            case _:
                value.Clear()

    def _change_order(self, result: fleet_pb2.Result, _: bytearray) -> None:
        order = result.content.array_order
        order[:] = self._random.choice(([], ["arrays", "arrays"], ["other"], ["arrays", "more"], ["more", "arrays"]))

    def _change_blob(self, _: fleet_pb2.Result, blob: bytearray) -> None:
        if self._random.random() < 0.5:
            del blob[self._random.randrange(len(blob) + 1) :]
        else:
            blob += self._random.randbytes(self._random.randrange(200))

    def _add_record(self, result: fleet_pb2.Result, blob: bytearray) -> None:
        size = self._random.randrange(40)
        result.content.arrays["more"].tensors.add(name="m", dtype=5, shape=[size])
        result.content.array_order.append("more")
        blob += bytes(size)

    def _shuffled(self, frames: list[bytes]) -> list[bytes]:
        place = self._random.randrange(len(frames))
        match self._random.randrange(4):
            case 0:
                frames.insert(place, frames[self._random.randrange(len(frames))])
            case 1:
                del frames[place]
            case 2:
                other = self._random.randrange(len(frames))
                frames[place], frames[other] = frames[other], frames[place]
            case _:
                received = fleet_pb2.Received(offset=self._integer(), limit=self._integer())
                frames.insert(place, fleet_pb2.WorkRequest(received=received).SerializeToString())
        return frames

    def _bytes_changed(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 8))):
            place = self._random.randrange(len(changed) + 1)
            match self._random.randrange(3):
                case 0 if place < len(changed):
                    changed[place] ^= 1 << self._random.randrange(8)
                case 1:
                    changed[place:place] = self._random.randbytes(self._random.randrange(1, 6))
                case _:
                    del changed[place : place + self._random.randrange(1, 6)]
        return bytes(changed)


def drive(count: int, seed: int) -> tuple[Counter[str], list[tuple[bytes, str]], int, int]:
    """Decode many inputs.

    Returns:
        How they ended, the crashes (input and error), how often memory went beyond the budget, and the most it took.
    """
    mutator, ends, crashes = Mutator(seed), Counter[str](), list[tuple[bytes, str]]()
    beyond = most = 0
    tracemalloc.start()
    try:
        for _ in range(count):
            data = mutator.input()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            try:
                ends[one_input(data)] += 1
            except Exception as error:
                ends["crash"] += 1
                crashes.append((data, f"{type(error).__name__}: {error}"))
            taken = tracemalloc.get_traced_memory()[1] - before
            most = max(most, taken)
            beyond += taken > BUDGET_BYTES
    finally:
        tracemalloc.stop()
    return ends, crashes, beyond, most


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    count, began_s = QUICK_INPUTS if options.quick else INPUTS, time.perf_counter()
    ends, crashes, beyond, most = drive(count, SEED)
    rows = [{"end": end, "inputs": number} for end, number in ends.most_common()]
    rows += [{"crash": error, "input": data.hex()} for data, error in crashes[:10]]
    rows.append({"most_bytes_taken": most, "wall_s": time.perf_counter() - began_s})
    musts = [
        must("inputs", sum(ends.values()), ">=", count),
        must("crashes", len(crashes), "==", 0),
        must("allocations above the budget", beyond, "==", 0),
        must("inputs understood", ends["understood"], ">=", count // 100),
    ]
    finish("decoder_fuzz", options, [SEED], rows, musts, ("google-crc32c", "ml_dtypes"))


if __name__ == "__main__":
    main()
