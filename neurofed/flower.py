"""Flower's messages to the protocol's contents and back: all that both ends of the link need of Flower.

Only this module and the adapters `server.grid`, `server.server_app`, `server.strategy` and `worker.client_app` import
flwr, because its internals change between minor versions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message.message import make_message
from flwr.supercore.task_identity import TaskIdentity

from neurofed import tensors
from neurofed.codecs.numbers import Numbers, pack, unpack
from neurofed.errors import DataError, ManifestError
from neurofed.records import METRICS, NUMBERS
from neurofed.rope import Buffer, Rope
from neurofed.v1 import records_pb2 as pb

SERVER_NODE_ID = 1
"""Node id of the aggregator, as in Flower's own engines."""
ERROR_CLIENT_APP = 2
ERROR_NODE_UNAVAILABLE = 5
"""Flower's own codes for a failed ClientApp and for a node that is gone."""
MAX_LIST_LENGTH = 100_000


def set_identity(run_number: int, node_id: int) -> None:
    """Tell Flower in which run and as which node this process acts; its `Message` constructor asks."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run_number, 1, node_id


def content_of(records: RecordDict) -> tuple[pb.Content, Rope]:
    """Split Flower's records into a header and the bytes of all arrays, which are not copied."""
    content, ropes = pb.Content(), []
    for name, record in array_records(records).items():
        arrays = to_numpy(record)
        content.arrays[name].CopyFrom(tensors.manifest_of(arrays))
        content.array_order.append(name)
        ropes.append(tensors.rope_of(arrays))
    for name, metrics in metric_records(records).items():
        _write_record(content.metrics[name], metrics)
    for name, config in config_records(records).items():
        _write_record(content.configs[name], config)
    blob = Rope.joined(ropes)
    content.blob.size_bytes, content.blob.xxh3_128 = len(blob), blob.checksum()
    return content, blob


def records_of(content: pb.Content, blob: Buffer) -> RecordDict:
    """Join a header and the bytes of its arrays to Flower's records.

    Raises:
        DataError: if header and bytes do not fit each other.
    """
    records: dict[str, Any] = {}
    view, offset = memoryview(blob), 0
    for name in _array_order(content):
        manifest = content.arrays[name]
        size = tensors.size_bytes(manifest, limit_bytes=len(blob) - offset)
        records[name] = to_record(tensors.unpack(manifest, view[offset : offset + size]))
        offset += size
    if offset != len(blob):
        raise ManifestError(f"expected {offset} bytes of arrays as declared, got {len(blob)}")
    for name, metrics in content.metrics.items():
        records[name] = MetricRecord({k: _number(v) for k, v in metrics.values.items()})
    for name, config in content.configs.items():
        records[name] = ConfigRecord({k: _plain(v) for k, v in config.values.items()})
    return RecordDict(records)


def _array_order(content: pb.Content) -> Iterable[str]:
    if sorted(content.array_order) != sorted(content.arrays):
        raise ManifestError(f"expected an order of {sorted(content.arrays)}, got {sorted(content.array_order)}")
    return content.array_order


def array_records(records: RecordDict) -> dict[str, ArrayRecord]:
    """The array records among them, by name.

    Flower's own property of that name hands out a view that refers back to its owner. Who asks for it leaves a cycle,
    and all arrays stay in memory until the garbage collector comes by.
    """
    return {name: record for name, record in records.items() if isinstance(record, ArrayRecord)}


def metric_records(records: RecordDict) -> dict[str, MetricRecord]:
    """The metric records among them, by name; see `array_records`."""
    return {name: record for name, record in records.items() if isinstance(record, MetricRecord)}


def config_records(records: RecordDict) -> dict[str, ConfigRecord]:
    """The configuration records among them, by name; see `array_records`."""
    return {name: record for name, record in records.items() if isinstance(record, ConfigRecord)}


def packed(numbers: Numbers) -> ConfigRecord:
    """Reported numbers in few bytes, see `neurofed.codecs.numbers`."""
    return ConfigRecord({NUMBERS: pack(numbers)})


def unpacked(records: RecordDict) -> RecordDict:
    """The same records with numbers as they were before `packed`.

    Raises:
        DataError: if they cannot be read.
    """
    config = config_records(records).get(NUMBERS)
    if config is None:
        return records
    data = config.get(NUMBERS)
    if not isinstance(data, bytes):
        raise DataError(f"expected packed numbers as bytes, got {type(data).__name__}")
    rest = {name: record for name, record in records.items() if name != NUMBERS}
    return RecordDict({**rest, METRICS: MetricRecord(dict(unpack(data)))})


def to_numpy(record: ArrayRecord) -> dict[str, tensors.Array]:
    """An array record as numpy arrays, in its order."""
    return {name: array.numpy() for name, array in record.items()}


def to_record(arrays: Mapping[str, tensors.Array]) -> ArrayRecord:
    """Numpy arrays as an array record, in their order; Flower's format has no bfloat16, which becomes float32.

    The record holds the arrays themselves, not copies.
    """
    record = ArrayRecord()
    for name, array in arrays.items():  # given all at once, Flower copies them
        record[name] = _Held(_for_flower(array))
    return record


class _Held(Array):
    """An array as it is: only for Flower's own engines, which want bytes in a file format, is it copied."""

    def __init__(self, array: tensors.Array) -> None:
        self.dtype, self.shape, self.stype = str(array.dtype), array.shape, Array(np.empty(0)).stype
        self._array = array.view()
        self._array.flags.writeable = False

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array in numpy's file format."""
        return Array(self._array).data

    def numpy(self) -> tensors.Array:
        """The array, read-only."""
        return self._array


def _for_flower(array: tensors.Array) -> tensors.Array:
    return np.asarray(array, np.float32 if array.dtype == tensors.BFLOAT16 else None, order="C")


def _write_record(target: pb.Record, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        entry = target.values[key]
        match value:
            case bool():
                entry.flag = value
            case int() if -(2**63) <= value < 2**63:
                entry.integer = value
            case float():
                entry.number = value
            case str():
                entry.text = value
            case bytes():
                entry.data = value
            case list() if all(type(v) is int and -(2**63) <= v < 2**63 for v in value):
                entry.integers.values.extend(value)
            case list() if all(type(v) in (float, int) for v in value):
                entry.numbers.values.extend(value)
            case _:
                raise DataError(f"record entry {key!r}: {type(value).__name__} cannot cross the network")


def _plain(value: pb.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise DataError("expected a value in every record entry, got an empty one")
    content = getattr(value, kind)
    if kind in ("numbers", "integers"):
        if len(content.values) > MAX_LIST_LENGTH:
            raise DataError(f"expected lists of at most {MAX_LIST_LENGTH} values, got {len(content.values)}")
        return list(content.values)
    return content


def _number(value: pb.Value) -> Any:
    if value.WhichOneof("kind") not in ("number", "integer", "numbers", "integers"):
        raise DataError(f"expected a number in a metric record, got {value.WhichOneof('kind')}")
    return _plain(value)


def task_message(records: RecordDict, *, task_id: str, run_number: int, node_id: int, kind: str, group: str) -> Message:
    """The message a ClientApp receives for a task."""
    return make_message(
        metadata=Metadata(
            run_id=run_number,
            message_id=task_id,
            src_node_id=SERVER_NODE_ID,
            dst_node_id=node_id,
            reply_to_message_id="",
            group_id=group,
            created_at=0.0,
            ttl=float("inf"),
            message_type=kind,
        ),
        content=records,
    )


def reply_message(
    request: Message, records: RecordDict | None, reason: str = "", code: int = ERROR_CLIENT_APP
) -> Message:
    """The reply to `request`: its records, or an error where there are none."""
    if records is None:
        return Message(Error(code, reason), reply_to=request)
    return Message(records, reply_to=request)
