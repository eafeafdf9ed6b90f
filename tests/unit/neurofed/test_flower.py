import warnings

import numpy as np
import pytest
import xxhash

with warnings.catch_warnings():  # flwr imports typer, which imports names that click has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from neurofed import flower

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from neurofed.errors import DataError, ManifestError
from neurofed.v1 import records_pb2 as pb

MODEL = {
    "z": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, np.nan, -0.0], np.float16),
    "scalar": np.array(-5, np.int64),
    "empty": np.zeros((0, 2), np.float32),
    "u": np.array([0, 255], np.uint8),
}
CONFIG = {
    "flag": True,
    "off": False,
    "integer": -(2**62),
    "zero": 0,
    "number": 0.1 + 0.2,
    "infinite": float("inf"),
    "text": "grün",
    "no text": "",
    "data": b"\x00\xff",
    "no data": b"",
    "integers": [1, -2, 3],
    "numbers": [0.5, -1.25],
}
METRICS = {"num-examples": 12, "loss": 0.25, "series": [0.5, 0.25], "counts": [1, 2]}


def _records():
    return RecordDict(
        {
            "model": flower.to_record(MODEL),
            "before": flower.to_record({"w": np.ones(3, np.float32)}),
            "metrics": MetricRecord(METRICS),
            "config": ConfigRecord(CONFIG),
        }
    )


def _over_the_wire(records):
    content, blob = flower.content_of(records)
    return flower.records_of(pb.Content.FromString(content.SerializeToString()), bytes(blob))


def test_every_kind_of_value_comes_back():
    got = _over_the_wire(_records())
    assert dict(got.config_records["config"]) == CONFIG
    assert {k: type(v) for k, v in got.config_records["config"].items()} == {k: type(v) for k, v in CONFIG.items()}
    assert dict(got.metric_records["metrics"]) == METRICS
    assert type(got.metric_records["metrics"]["num-examples"]) is int
    assert all(type(v) is float for v in got.config_records["config"]["numbers"])
    assert all(type(v) is int for v in got.config_records["config"]["integers"])


def test_arrays_come_back_bit_by_bit_and_in_order():
    got = _over_the_wire(_records())
    assert list(got.array_records) == ["model", "before"]
    arrays = flower.to_numpy(got.array_records["model"])
    assert list(arrays) == list(MODEL)
    for name, array in MODEL.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def test_the_header_announces_the_bytes():
    content, blob = flower.content_of(_records())
    assert content.blob.size_bytes == len(blob)
    assert content.blob.xxh3_128 == xxhash.xxh3_128_digest(bytes(blob))
    assert list(content.array_order) == ["model", "before"]


@pytest.mark.parametrize("record", [ArrayRecord(), MetricRecord(), ConfigRecord()], ids=lambda r: type(r).__name__)
def test_an_empty_record_stays_there(record):
    got = _over_the_wire(RecordDict({"r": record}))
    assert list(got) == ["r"]
    assert type(got["r"]) is type(record)
    assert not got["r"]


def test_no_records_at_all_come_back_as_none():
    assert not _over_the_wire(RecordDict())


def test_an_empty_list_stays_an_empty_list():
    got = _over_the_wire(RecordDict({"c": ConfigRecord({"list": []})}))
    assert got.config_records["c"]["list"] == []


@pytest.mark.parametrize("value", [["a"], [b"a"], [True, False]], ids=["texts", "data", "flags"])
def test_lists_of_other_things_are_refused_rather_than_changed(value):
    with pytest.raises(DataError, match="'entry'"):
        flower.content_of(RecordDict({"c": ConfigRecord({"entry": value})}))


def test_an_integer_of_more_than_64_bits_is_refused_by_name():
    with pytest.raises(DataError, match="'entry'"):
        flower.content_of(RecordDict({"c": ConfigRecord({"entry": 2**64})}))


def test_an_array_of_another_type_is_refused():
    with pytest.raises(ManifestError, match="float64"):
        flower.content_of(RecordDict({"m": flower.to_record({"w": np.zeros(2)})}))


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_header_and_bytes_must_fit(change):
    content, blob = flower.content_of(_records())
    with pytest.raises(ManifestError):
        flower.records_of(content, change(bytes(blob)))


@pytest.mark.parametrize("order", [[], ["model"], ["model", "model"], ["model", "before", "before"], ["model", "x"]])
def test_the_order_must_name_each_record_once(order):
    content, blob = flower.content_of(_records())
    content.array_order[:] = order
    with pytest.raises(ManifestError, match="order"):
        flower.records_of(content, bytes(blob))


def test_an_entry_without_a_value_is_refused():
    content = pb.Content()
    content.configs["c"].values["k"].SetInParent()
    with pytest.raises(DataError, match="empty"):
        flower.records_of(content, b"")


@pytest.mark.parametrize("value", [pb.Value(text="x"), pb.Value(flag=True), pb.Value(data=b"x"), pb.Value()])
def test_a_metric_must_be_a_number(value):
    content = pb.Content()
    content.metrics["m"].values["k"].CopyFrom(value)
    with pytest.raises(DataError, match="number"):
        flower.records_of(content, b"")


def test_a_list_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(flower, "MAX_LIST_LENGTH", 2)
    content, blob = flower.content_of(RecordDict({"c": ConfigRecord({"list": [1, 2, 3]})}))
    with pytest.raises(DataError, match="at most 2"):
        flower.records_of(content, bytes(blob))


def test_a_task_is_a_message_and_its_reply_goes_back():
    flower.set_identity(run_number=7, node_id=42)
    task = flower.task_message(_records(), task_id="t1", run_number=7, node_id=42, kind="train", group="3")
    meta = task.metadata
    assert (meta.message_id, meta.run_id, meta.dst_node_id, meta.message_type) == ("t1", 7, 42, "train")
    assert (meta.src_node_id, meta.group_id) == (flower.SERVER_NODE_ID, "3")
    reply = flower.reply_message(task, _records())
    assert reply.metadata.reply_to_message_id == "t1"
    assert reply.metadata.dst_node_id == flower.SERVER_NODE_ID
    assert dict(reply.content.metric_records["metrics"]) == METRICS
    failed = flower.reply_message(task, None, "out of memory")
    assert failed.has_error()
    assert (failed.error.code, failed.error.reason) == (flower.ERROR_CLIENT_APP, "out of memory")
