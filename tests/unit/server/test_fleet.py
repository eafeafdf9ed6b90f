"""The aggregator's end of the stream, over a real socket."""

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from support_fleet import Aggregator, ScriptedWorker, announce, content_of, model_of

import neurofed
from neurofed import flower, protocol, tensors
from neurofed.framing import CHUNK_BYTES, chunk_at
from neurofed.rope import Checksum
from neurofed.transfer import WINDOW_BYTES
from neurofed.v1 import fleet_pb2, monitor_pb2
from server.grid import FleetGrid

BIG = model_of(12 * CHUNK_BYTES + 400)


@pytest.fixture
def aggregator(tmp_path):
    with Aggregator(tmp_path) as aggregator:
        yield aggregator


@pytest.fixture
def join(aggregator):
    """Makes workers, each with its stream open, and lets their connections break in the end."""
    workers = []

    def make(name="w", address=None):
        workers.append(ScriptedWorker(address or aggregator.address, name))
        return workers[-1].open()

    yield make
    for worker in workers:
        worker.cut()


def _bytes(model):
    return tensors.pack(model)


# -- joining


def test_both_sides_say_what_they_speak(aggregator):
    with ScriptedWorker(aggregator.address, "w") as worker:
        joined = worker.join(oldest_protocol=1, newest_protocol=99, capabilities=["x/1", protocol.NUMERICS])
    assert joined.protocol == protocol.NEWEST
    assert joined.version == neurofed.__version__
    assert list(joined.capabilities) == [protocol.NUMERICS]


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"newest_protocol": 1, "oldest_protocol": 0}, ["protocol 2", "protocol 1 of"]),
        ({"newest_protocol": 9, "oldest_protocol": 7}, ["protocol 2", "protocol 7 to 9"]),
        ({"newest_protocol": 0, "oldest_protocol": 0}, ["protocol 0"]),
        ({"newest_protocol": 2, "oldest_protocol": 3}, ["protocol 3 to 2"]),
        ({"capabilities": ["numerics/99.9"]}, [protocol.NUMERICS, "numerics/99.9 only"]),
        ({"capabilities": []}, [protocol.NUMERICS, "none only"]),
    ],
)
def test_a_worker_that_speaks_something_else_is_told_both_versions(aggregator, changes, texts):
    with ScriptedWorker(aggregator.address, "w") as worker, pytest.raises(grpc.RpcError) as refused:
        worker.join(version="9.9.9", **changes)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    for text in (*texts, "'9.9.9'", f"neurofed=={neurofed.__version__}"):
        assert text in refused.value.details()


@pytest.mark.parametrize(
    "changes", [{"name": ""}, {"name": "a/b"}, {"name": "a" * 65}, {"chip": "c" * 201}, {"instance": "i" * 1000}]
)
def test_a_worker_with_unusable_words_is_refused(aggregator, changes):
    with ScriptedWorker(aggregator.address, "w") as worker, pytest.raises(grpc.RpcError) as refused:
        worker.join(**changes)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_needs_a_session(aggregator):
    with ScriptedWorker(aggregator.address, "w") as worker:
        for session in ("", "guessed"):
            assert worker.open(session).failure().code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_name_is_one_process_until_its_stream_ends(aggregator, join):
    first = join()
    with ScriptedWorker(aggregator.address, "w") as other:
        with pytest.raises(grpc.RpcError) as refused:
            other.join(instance="another")
        assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
        first.cut()
        aggregator.wait_until(lambda: not aggregator.fleet.roster()[0].connected)
        assert other.join(instance="another").session


def test_a_worker_that_joins_and_opens_no_stream_is_given_up(aggregator):
    with ScriptedWorker(aggregator.address, "w") as worker:
        worker.join()
        task = aggregator.assign("w", model_of(8))
        outcome = aggregator.outcome()
    assert (outcome.task_id, outcome.lost) == (task.task_id, True)
    assert aggregator.of(monitor_pb2.WorkerLost)[0].name == "w"


def test_what_a_board_says_of_itself_is_shown(aggregator, join):
    facts = fleet_pb2.Heartbeat(cpu_s=1.5, rss_bytes=7 << 20, temperature_c=61.5)
    join().send(heartbeat=facts)
    (worker,) = aggregator.fleet.roster()
    aggregator.wait_until(lambda: worker.facts == facts)
    entry = worker.entry()
    assert (entry.cpu_s, entry.rss_bytes, entry.temperature_c) == (1.5, 7 << 20, 61.5)
    worker.facts = fleet_pb2.Heartbeat()
    assert not worker.entry().HasField("temperature_c")


# -- transfers


def test_a_task_and_its_answer_arrive_whole_and_are_counted(aggregator, join):
    worker = join()
    aggregator.assign("w", BIG)
    task, model = worker.task()
    assert model["w"].tobytes() == BIG["w"].tobytes()
    answer = {"w": BIG["w"] + 1}
    assert worker.answer(task, answer, loss=0.5).accepted
    outcome = aggregator.outcome()
    assert (outcome.task_id, outcome.error, outcome.rejected, outcome.lost) == (task.task_id, "", False, False)
    assert bytes(outcome.blob) == _bytes(answer)
    size = len(_bytes(BIG))
    (sent,) = aggregator.of(monitor_pb2.TaskSent)
    for counted in (sent.bytes_down, outcome.bytes_up):
        assert size < counted < size + 1000


def test_no_more_than_the_window_is_sent_to_a_worker_that_does_not_acknowledge(aggregator, join):
    worker = join()
    task = aggregator.assign("w", BIG)
    assert worker.receive("task") == task
    worker.acknowledge(task, 0)
    got = [worker.receive("chunk").offset for _ in range(WINDOW_BYTES // CHUNK_BYTES)]
    assert got == list(range(0, WINDOW_BYTES, CHUNK_BYTES))
    aggregator.fleet.cancel(task.task_id)
    kinds = [next(worker.frames()).WhichOneof("frame")]
    assert kinds == ["cancel"], "small frames overtake chunks, and a withdrawn blob is not sent"


def test_a_download_goes_on_where_it_was(aggregator, join):
    worker = join()
    task = aggregator.assign("w", BIG)
    part = worker.download(worker.receive("task"), until=5 * CHUNK_BYTES)
    worker.cut()
    again = join()
    assert again.receive("task") == task
    whole = again.download(task, have=part)
    assert whole == _bytes(BIG)
    sent = aggregator.wait_for(monitor_pb2.TaskSent)
    under_way = WINDOW_BYTES
    assert sent.bytes_down < len(whole) + under_way + 2000, "what had been acknowledged was not sent again"


def test_a_worker_that_has_the_blob_is_sent_none_of_it(aggregator, join):
    worker = join()
    task = aggregator.assign("w", BIG)
    blob = worker.download(worker.receive("task"))
    aggregator.wait_for(monitor_pb2.TaskSent)
    worker.cut()
    again = join()
    assert again.download(again.receive("task"), have=blob) == blob
    assert again.answer(task, BIG).accepted
    assert aggregator.of(monitor_pb2.TaskSent)[-1].bytes_down < 1000


def test_an_upload_goes_on_where_it_was_and_every_byte_counts_once(aggregator, join):
    worker = join()
    aggregator.assign("w", model_of(8 * CHUNK_BYTES))
    task, _ = worker.task()
    content, blob = content_of(model_of(8 * CHUNK_BYTES), num_examples=3)
    worker.offer(task.task_id, content)
    assert worker.upload(blob, until=5 * CHUNK_BYTES) == 0
    aggregator.wait_until(lambda: aggregator.fleet.roster()[0].intake.received_bytes == 5 * CHUNK_BYTES)
    worker.cut()
    again = join()
    assert again.receive("task").task_id == task.task_id
    again.offer(task.task_id, content)
    assert again.upload(blob) == 5 * CHUNK_BYTES
    assert again.receive("verdict").accepted
    outcome = aggregator.outcome()
    assert bytes(outcome.blob) == blob
    assert outcome.bytes_up < len(blob) + 2000


def test_a_restarted_worker_goes_on_with_the_upload_of_the_same_bits(aggregator, join):
    worker = join()
    aggregator.assign("w", model_of(4 * CHUNK_BYTES))
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3, train_s=1.0)
    worker.offer(task.task_id, content)
    worker.upload(blob, until=2 * CHUNK_BYTES)
    aggregator.wait_until(lambda: aggregator.fleet.roster()[0].intake.received_bytes == 2 * CHUNK_BYTES)
    worker.cut()
    aggregator.wait_until(lambda: not aggregator.fleet.roster()[0].connected)
    restarted = ScriptedWorker(aggregator.address, "w")
    restarted.instance = "after the restart"
    with restarted.open():
        task, _ = restarted.task()
        content, blob = content_of(model, num_examples=3, train_s=2.0)
        restarted.offer(task.task_id, content)
        assert restarted.upload(blob) == 2 * CHUNK_BYTES
        assert restarted.receive("verdict").accepted
    outcome = aggregator.outcome()
    assert outcome.content == content


def test_a_partial_upload_is_dropped_when_the_worker_stays_away(aggregator, join, tmp_path):
    worker = join()
    aggregator.assign("w", model_of(4 * CHUNK_BYTES))
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3)
    worker.offer(task.task_id, content)
    worker.upload(blob, until=2 * CHUNK_BYTES)
    (known,) = aggregator.fleet.roster()
    aggregator.wait_until(lambda: known.intake.received_bytes)
    worker.cut()
    assert aggregator.outcome().lost
    assert known.intake.received_bytes == 0
    assert aggregator.fleet.workers() == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_chunk_costs_a_reconnect_and_not_the_transfer(aggregator, join):
    worker = join()
    aggregator.assign("w", model_of(3 * CHUNK_BYTES))
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3)
    worker.offer(task.task_id, content)
    worker.upload(blob, until=CHUNK_BYTES)
    damaged = chunk_at(blob, CHUNK_BYTES)
    damaged.crc32c ^= 1
    worker.send(chunk=damaged)
    assert worker.failure().code() == grpc.StatusCode.DATA_LOSS
    again = join()
    again.receive("task")
    again.offer(task.task_id, content)
    assert again.upload(blob) == CHUNK_BYTES
    assert again.receive("verdict").accepted
    assert aggregator.of(monitor_pb2.WorkerQuarantined) == []


def test_damage_without_end_is_no_accident(aggregator, join):
    aggregator_saw = []
    content, blob = content_of(model_of(3 * CHUNK_BYTES), num_examples=3)
    damaged = chunk_at(blob, 0)
    damaged.crc32c ^= 1
    for attempt in range(4):
        worker = join()
        if attempt == 0:
            aggregator.assign("w", model_of(3 * CHUNK_BYTES))
        task = worker.receive("task")
        worker.offer(task.task_id, content)
        worker.receive("received")
        worker.send(chunk=damaged)
        if attempt < 3:
            aggregator_saw.append(worker.failure().code())
            worker.cut()
    assert not worker.receive("verdict").accepted
    assert aggregator_saw == [grpc.StatusCode.DATA_LOSS] * 3
    assert "CRC-32C" in aggregator.wait_for(monitor_pb2.WorkerQuarantined).reason


def test_a_withdrawn_task_frees_what_was_uploaded_and_its_last_chunks_do_no_harm(aggregator, join):
    worker = join()
    task = aggregator.assign("w", model_of(4 * CHUNK_BYTES))
    worker.task()
    content, blob = content_of(model_of(4 * CHUNK_BYTES), num_examples=3)
    worker.offer(task.task_id, content)
    worker.upload(blob, until=2 * CHUNK_BYTES)
    (known,) = aggregator.fleet.roster()
    aggregator.wait_until(lambda: known.intake.received_bytes)
    aggregator.fleet.cancel(task.task_id)
    assert worker.receive("cancel").task_id == task.task_id
    assert known.intake.received_bytes == 0
    worker.send(chunk=chunk_at(blob, 2 * CHUNK_BYTES))
    aggregator.assign("w", model_of(8), number=2)
    task, model = worker.task()
    assert worker.answer(task, model).accepted
    assert aggregator.of(monitor_pb2.WorkerQuarantined) == []


def test_an_old_stream_of_a_worker_that_came_back_is_heard_no_more(aggregator, join):
    old, new = join(), join()
    task = aggregator.assign("w", model_of(8))
    assert new.receive("task") == task
    content, _ = content_of(model_of(8), num_examples=3)
    old.offer(task.task_id, content)
    list(old.frames())
    verdict = new.answer(new.download(task) and task, model_of(8))
    assert verdict.accepted
    assert aggregator.of(monitor_pb2.WorkerQuarantined) == []


def test_a_drained_worker_gets_no_more_tasks_until_it_joins_again(aggregator, join):
    worker, other = join("w"), join("v")
    aggregator.wait_until(lambda: sum(w.connected for w in aggregator.fleet.workers()) == 2)

    async def drain():
        aggregator.fleet.drain("maintenance", "w")

    aggregator.call(drain).result(10)
    assert worker.receive("drain").reason == "maintenance"
    assert [w.name for w in aggregator.fleet.workers()] == ["v"]
    worker.cut()
    join("w")
    aggregator.wait_until(lambda: len(aggregator.fleet.workers()) == 2)
    other.cut()


def test_a_broadcast_is_serialised_once(aggregator, join):
    workers = [join(f"w{k}") for k in range(4)]
    aggregator.wait_until(lambda: len(aggregator.fleet.workers()) == 4)
    flower.set_identity(1, flower.SERVER_NODE_ID)
    grid = FleetGrid(aggregator.fleet, "run", 1)
    model = ArrayRecord({"w": Array(np.ones(5, np.float32))})
    messages = [
        grid.create_message(
            RecordDict({"arrays": model, "config": ConfigRecord({"server-round": 1, "part": part})}),
            "train",
            node,
            "1",
        )
        for part, node in enumerate(grid.get_node_ids())
    ]
    grid.push_messages(messages)
    tasks = [worker.task()[0] for worker in workers]
    assert len({task.content.configs["config"].values["part"].integer for task in tasks}) == 4
    parcels = {id(worker.assignment.parcel) for worker in aggregator.fleet.roster()}
    assert len(parcels) == 1, "every stream sends the very same bytes"


# -- lies


def _lie(worker, task, content, blob=b"", **announced):
    """Offer a result that breaks a rule, and return the verdict."""
    announce(content, blob)
    for name, value in announced.items():
        setattr(content.blob, name, value)
    worker.offer(task.task_id, content)
    return worker.receive("verdict")


W8 = model_of(8)
WRONG = {
    "another type": ({"w": np.zeros(2, np.float16)}, "expected float32 [2], got float16 [2]"),
    "another shape": ({"w": np.zeros(3, np.float32)}, "expected float32 [2], got float32 [3]"),
    "another name": ({"v": np.zeros(2, np.float32)}, "expected tensor 'w'"),
    "one more": ({**W8, "v": np.zeros(2, np.float32)}, "'v' is not part of the model"),
    "nothing": ({}, "expected tensor 'w'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_manifest_is_refused_before_a_byte_of_it_is_taken(aggregator, join, kind):
    worker = join()
    aggregator.assign("w", W8)
    task, _ = worker.task()
    arrays, text = WRONG[kind]
    content, blob = content_of(arrays, num_examples=3)
    verdict = _lie(worker, task, content, blob)
    assert (verdict.accepted, verdict.task_id) == (False, task.task_id)
    assert text in verdict.reason
    outcome = aggregator.outcome()
    assert (outcome.rejected, outcome.error) == (True, verdict.reason)
    (event,) = aggregator.of(monitor_pb2.WorkerQuarantined)
    assert (event.name, event.round, event.reason) == ("w", 1, verdict.reason)
    assert "w" in aggregator.fleet.quarantine


@pytest.mark.parametrize(
    ("announced", "text"),
    [
        ({"size_bytes": 7}, "the declared 8 bytes, got 7"),
        ({"size_bytes": 1 << 40}, "the declared 8 bytes"),
        ({"size_bytes": -1}, "the declared 8 bytes"),
        ({"xxh3_128": b"short"}, "16 bytes"),
    ],
)
def test_an_announcement_that_cannot_be_is_refused(aggregator, join, announced, text):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3)
    assert text in _lie(worker, task, content, blob, **announced).reason
    assert aggregator.outcome().rejected


def test_more_than_the_budget_is_refused(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3)
    content.arrays["more"].tensors.add(name="x", dtype=1, shape=[5 << 20])
    content.array_order.append("more")
    assert "at most" in _lie(worker, task, content, blob, size_bytes=(5 << 22) + 8).reason
    content, blob = content_of({"w": np.zeros(5 << 20, np.float32)}, num_examples=3)


def test_a_header_that_is_too_large_is_refused(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3)
    content.metrics["metrics"].values["x"].data = bytes(1 << 20)
    assert "beside its blob" in _lie(worker, task, content, blob).reason


def test_bytes_that_were_not_announced_are_refused(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, blob = content_of(model, num_examples=3)
    content.blob.xxh3_128 = Checksum(b"other").digest()
    worker.offer(task.task_id, content)
    worker.upload(blob)
    assert "checksum" in worker.receive("verdict").reason
    assert aggregator.outcome().rejected


@pytest.mark.parametrize("changes", [{"offset": 1}, {"data": bytes(9)}, {"data": b""}])
def test_a_chunk_that_does_not_fit_is_refused(aggregator, join, changes):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, _ = content_of(model, num_examples=3)
    worker.offer(task.task_id, content)
    worker.receive("received")
    worker.send(chunk=fleet_pb2.Chunk(**{"data": bytes(8), **changes}))
    assert "expected a chunk of 8 bytes at 0 of 8" in worker.receive("verdict").reason


def test_a_result_twice_is_refused_whole_and_counted_never(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, _ = content_of(model, num_examples=3)
    worker.offer(task.task_id, content)
    worker.offer(task.task_id, content)
    assert "expected one result" in worker.receive("verdict").reason
    assert aggregator.outcome().rejected


def test_a_second_answer_after_the_first_changes_nothing_and_costs_the_trust(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    assert worker.answer(task, model).accepted
    assert aggregator.outcome().content is not None
    content, _ = content_of({"w": model["w"] + 1}, num_examples=3)
    worker.offer(task.task_id, content)
    assert not worker.receive("verdict").accepted
    assert aggregator.outcomes.empty()
    assert aggregator.wait_for(monitor_pb2.WorkerQuarantined).name == "w"


def test_an_answer_to_what_nobody_asked_is_refused_and_the_task_in_hand_with_it(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    content, _ = content_of(model, num_examples=3)
    worker.offer("run/0/train/w" + "x" * 100_000, content)
    verdicts = [worker.receive("verdict"), worker.receive("verdict")]
    assert [len(verdict.task_id) < 1000 for verdict in verdicts] == [True, True]
    assert verdicts[1].task_id == task.task_id
    assert aggregator.outcome().rejected


def test_an_update_of_an_earlier_round_is_refused(aggregator, join):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()
    update = {"w": model["w"] + 1}
    assert worker.answer(task, update).accepted
    aggregator.outcome()
    aggregator.assign("w", {"w": model["w"] + 2}, number=2)
    task, _ = worker.task()
    verdict = worker.answer(task, update)
    assert "run/1/train/w again" in verdict.reason
    assert aggregator.outcome().rejected


@pytest.mark.parametrize("change", [0, 1])
def test_the_same_answer_to_the_same_model_is_no_replay(aggregator, join, change):
    worker = join()
    for number in (1, 2, 3):
        aggregator.assign("w", W8, number=number)
        task, model = worker.task()
        assert worker.answer(task, {"w": model["w"] + change}).accepted
        assert aggregator.outcome().content is not None


def test_being_late_once_is_told_and_forgiven_and_insisting_is_not(aggregator, join):
    worker = join()
    task = aggregator.assign("w", W8)
    _, model = worker.task()
    aggregator.fleet.cancel(task.task_id)
    worker.receive("cancel")
    content, _ = content_of(model, num_examples=3)
    worker.offer(task.task_id, content)
    assert "too late" in worker.receive("verdict").reason
    (event,) = aggregator.of(monitor_pb2.ResultRejected)
    assert (event.worker, event.round) == ("w", 1)
    assert aggregator.of(monitor_pb2.WorkerQuarantined) == []
    worker.offer(task.task_id, content)
    assert not worker.receive("verdict").accepted
    assert aggregator.wait_for(monitor_pb2.WorkerQuarantined).round == 1


def test_a_new_run_trusts_everybody_again(aggregator, join):
    worker = join()
    worker.send(received=fleet_pb2.Received(task_id="none", offset=3))  # of no task: passed over
    worker.offer("none", content_of(W8)[0])
    aggregator.wait_for(monitor_pb2.WorkerQuarantined)
    assert "w" in aggregator.fleet.quarantine
    aggregator.fleet.start_run("next")
    assert "w" not in aggregator.fleet.quarantine


@pytest.mark.parametrize("offset", [-1, 1, 9])
def test_an_acknowledgement_that_cannot_be_is_refused(aggregator, join, offset):
    worker = join()
    task = aggregator.assign("w", W8)
    worker.receive("task")
    worker.send(received=fleet_pb2.Received(task_id=task.task_id, offset=offset))
    assert "acknowledgement" in worker.receive("verdict").reason


def test_progress_nobody_can_read_is_not_told(aggregator, join):
    worker = join()
    task = aggregator.assign("w", W8)
    worker.task()
    values = [{str(n): 1.0 for n in range(65)}, {"x" * 101: 1.0}]
    for bad in values:
        worker.send(progress=fleet_pb2.Progress(task_id=task.task_id, step=1, steps=2, values=bad))
    worker.send(progress=fleet_pb2.Progress(task_id=task.task_id, step=3, steps=2))
    worker.send(progress=fleet_pb2.Progress(task_id="another", step=1, steps=2))
    good = {"loss": 0.5, "worse": float("nan")}
    worker.send(progress=fleet_pb2.Progress(task_id=task.task_id, step=1, steps=2, values=good))
    told = aggregator.wait_for(monitor_pb2.TaskProgress)
    assert (dict(told.values), told.step, told.round) == ({"loss": 0.5}, 1, 1)
    assert len(aggregator.of(monitor_pb2.TaskProgress)) == 1


def test_chunks_without_end_that_nobody_asked_for_cost_the_trust(aggregator, join):
    worker = join()
    blob = bytes(CHUNK_BYTES)
    for _ in range(WINDOW_BYTES // CHUNK_BYTES + 1):
        worker.send(chunk=chunk_at(blob, 0))
    assert "nobody asked for" in aggregator.wait_for(monitor_pb2.WorkerQuarantined).reason


def test_a_worker_that_does_not_read_is_not_written_to_for_ever(aggregator, join):
    worker = join()
    (known,) = aggregator.wait_until(aggregator.fleet.workers)
    content, _ = content_of(W8)
    for _ in range(20_000):
        worker.offer("x" * 400, content)
    aggregator.wait_until(lambda: not known.connected)
    assert worker.failure().code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_full_disk_is_no_fault_of_the_worker(aggregator, join, monkeypatch):
    worker = join()
    aggregator.assign("w", W8)
    task, model = worker.task()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    assert worker.answer(task, model).accepted
    outcome = aggregator.outcome()
    assert "the update of w, got: No space left on device" in str(outcome.fault)
    assert not outcome.rejected
    assert aggregator.of(monitor_pb2.WorkerQuarantined) == []
