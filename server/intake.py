"""What a worker may upload: its result is checked against the task, its bytes against the result, within a budget.

Nothing here knows of streams: an upload goes on where it was when the worker comes back.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from neurofed import tensors
from neurofed.errors import DamagedError, DataError
from neurofed.framing import Chunk
from neurofed.records import CONFIG, MODEL_BYTES
from neurofed.rope import Buffer
from neurofed.transfer import MAX_BLOB_BYTES, BlobReceiver
from neurofed.v1 import fleet_pb2

MAX_HEADER_BYTES = 1 << 20
"""The most a result may hold beside its blob: manifests and numbers."""
_BUDGET_FACTOR, _BUDGET_BYTES = 4, 16 << 20
_MAX_DAMAGED = 3
_MAX_REMEMBERED = 256


def budget_bytes(task: fleet_pb2.Task) -> int:
    """The most that a worker may have stored here for a task: a few times what it was sent, or the model of that."""
    configs, sent_bytes = task.content.configs, task.content.blob.size_bytes
    if CONFIG in configs and MODEL_BYTES in configs[CONFIG].values:  # to ask for what is not there would put it there
        sent_bytes = max(sent_bytes, configs[CONFIG].values[MODEL_BYTES].integer)
    return min(MAX_BLOB_BYTES, _BUDGET_FACTOR * sent_bytes + _BUDGET_BYTES)


@dataclass(slots=True)
class _Upload:
    """A result on its way in.

    Attributes:
        task: what it answers.
        result: its header.
        receiver: the bytes so far.
        bytes_up: serialised frames received for it, over all streams.
        damaged: chunks that arrived damaged.
    """

    task: fleet_pb2.Task
    result: fleet_pb2.Result
    receiver: BlobReceiver
    bytes_up: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A result that is here as a whole: its header, the bytes of its arrays, and the bytes on the wire."""

    result: fleet_pb2.Result
    blob: Buffer
    bytes_up: int


class Intake:
    """The upload of one worker, at most one at a time, kept while the worker is away.

    Args:
        worker: its name, for errors.
        folder: where blobs are kept until they are aggregated; None keeps them in memory.
    """

    def __init__(self, worker: str, folder: Path | None = None) -> None:
        self._worker, self._folder = worker, folder
        self._upload: _Upload | None = None
        self._delivered: OrderedDict[tuple[str, bytes], tuple[str, bytes]] = OrderedDict()

    @property
    def received_bytes(self) -> int:
        """How much of an announced blob is stored here."""
        return self._upload.receiver.received_bytes if self._upload else 0

    def open(self, task: fleet_pb2.Task, result: fleet_pb2.Result, frame_bytes: int) -> int:
        """Admit a result that answers `task`.

        Args:
            task: what was asked for.
            result: the header, with content.
            frame_bytes: its length on the wire.

        Returns:
            How many bytes of its blob are here already: those of an earlier stream.

        Raises:
            DataError: if it breaks a rule.
        """
        announced = result.content.blob
        self._check(task, result)
        upload = self._upload
        if upload and upload.task.task_id == task.task_id and upload.receiver.announced == announced:
            upload.result = result
        else:
            earlier = upload.bytes_up if upload and upload.task.task_id == task.task_id else 0
            receiver = BlobReceiver(announced, budget_bytes(task), self._folder)
            self._upload = upload = _Upload(task, result, receiver, earlier)
        upload.bytes_up += frame_bytes
        return upload.receiver.received_bytes

    def add(self, chunk: Chunk, frame_bytes: int) -> int:
        """Take the next chunk of the announced blob; returns how many bytes of it that were.

        Raises:
            DamagedError: if it was damaged on the way.
            DataError: if it breaks a rule; damage that does not end is no accident.
            OSError: if there is no room for it.
        """
        upload = self._upload
        if upload is None:
            raise DataError("expected a result before its chunks")
        upload.bytes_up += frame_bytes
        try:
            return upload.receiver.add(chunk)
        except DamagedError:
            upload.damaged += 1
            if upload.damaged > _MAX_DAMAGED:
                raise DataError(f"expected chunks that have their CRC-32C, got {upload.damaged} that do not") from None
            raise

    def take(self) -> Delivery | None:
        """The result, once all of it is here.

        Raises:
            DataError: if its bytes are not the announced ones, or those of an earlier task.
        """
        upload = self._upload
        if upload is None or not upload.receiver.complete:
            return None
        self._upload = None
        blob = upload.receiver.finish()
        self._require_new(upload.task, upload.result.content.blob.xxh3_128)
        return Delivery(upload.result, blob, upload.bytes_up)

    def drop(self) -> None:
        """Forget the upload: the task is settled or withdrawn."""
        self._upload = None

    def _check(self, task: fleet_pb2.Task, result: fleet_pb2.Result) -> None:
        content, limit = result.content, budget_bytes(task)
        if (size := result.ByteSize()) > MAX_HEADER_BYTES:
            raise DataError(f"expected a result of at most {MAX_HEADER_BYTES} bytes beside its blob, got {size}")
        declared = 0
        for name, manifest in content.arrays.items():
            declared += tensors.size_bytes(manifest, limit)
            if name in task.content.arrays:
                tensors.require_same(manifest, task.content.arrays[name], f"worker {self._worker}")
        if declared > limit:
            raise DataError(f"expected at most {limit} bytes of tensors, got {declared} declared")
        if declared != content.blob.size_bytes:
            raise DataError(f"expected a blob of the declared {declared} bytes, got {content.blob.size_bytes}")

    def _require_new(self, task: fleet_pb2.Task, checksum: bytes) -> None:
        """Check that the update is not that of an earlier task: another model cannot have led to the same bits.

        An update that is the model itself has changed nothing, which may well happen twice.
        """
        model = task.content.blob.xxh3_128
        if checksum == model:
            return
        earlier, earlier_model = self._delivered.setdefault((task.run_id, checksum), (task.task_id, model))
        if earlier_model != model:
            raise DataError(f"expected a new update, got that of {earlier} again")
        while len(self._delivered) > _MAX_REMEMBERED:
            self._delivered.popitem(last=False)
