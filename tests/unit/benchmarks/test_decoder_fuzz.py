"""The short form of the fuzz benchmark."""

from benchmarks import decoder_fuzz
from benchmarks.decoder_fuzz import MODEL, TASK, drive, join, one_input, split
from neurofed.v1 import fleet_pb2


def test_hostile_inputs_are_refused_or_understood_within_the_budget():
    ends, crashes, beyond, most = drive(3000, seed=1)
    assert crashes == []
    assert beyond == 0
    assert most < decoder_fuzz.BUDGET_BYTES
    assert {"understood", "incomplete", "malformed", "DataError", "ManifestError", "DamagedError"} <= set(ends)


def test_the_same_seed_gives_the_same_inputs():
    first, second = (decoder_fuzz.Mutator(5) for _ in range(2))
    assert [first.input() for _ in range(50)] == [second.input() for _ in range(50)]


def test_an_honest_upload_is_understood():
    content, blob = decoder_fuzz._content(MODEL)
    frames = [fleet_pb2.WorkRequest(result=fleet_pb2.Result(task_id=TASK.task_id, content=content))]
    for offset in range(0, len(blob), decoder_fuzz._CHUNK_BYTES):
        frames.append(fleet_pb2.WorkRequest(chunk=decoder_fuzz.chunk_at(blob, offset)))
    data = join(frame.SerializeToString() for frame in frames)
    assert one_input(data) == "understood"
    assert one_input(data[:-1]) in ("malformed", "incomplete")
    assert one_input(b"") == "incomplete"


def test_a_crash_is_counted_and_kept(monkeypatch):
    def crash(_):
        raise RuntimeError("broken")

    monkeypatch.setattr(decoder_fuzz, "one_input", crash)
    ends, crashes, _, _ = drive(2, seed=1)
    assert ends["crash"] == 2
    assert [error for _, error in crashes] == ["RuntimeError: broken"] * 2


def test_frames_come_apart_as_they_were_put_together():
    frames = [b"", b"a", bytes(300)]
    assert list(split(join(frames))) == frames
