"""One bad worker of five, in ten ways, at a real aggregator: the round goes on and the model knows nothing of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from support_fleet import ScriptedWorker, announce, content_of

from neurofed import tensors
from neurofed.folding import fold_all
from neurofed.rope import Checksum
from neurofed.v1 import fleet_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

BAD = "worker-bad"
GOOD = tuple(f"good-{n}" for n in range(4))
Arrays = dict[str, tensors.Array]


def _trained(model: Arrays, name: str, number: int) -> Arrays:
    """What an honest worker's training leads to: a function of model, worker and round."""
    seed = int.from_bytes(hashlib.sha256(f"{name}/{number}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    return {
        key: array + rng.normal(0, 1e-3, array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
        for key, array in model.items()
    }


def _work_honestly(worker: ScriptedWorker) -> None:
    try:
        while True:
            task, model = worker.task()
            worker.answer(task, _trained(model, worker.name, task.round), loss=0.5, num_examples=10)
    except (grpc.RpcError, AssertionError, ValueError):
        return  # the test is over


@pytest.fixture
def good(federation: Any) -> Iterator[None]:
    """An aggregator with four honest workers."""
    federation.start_server("--out", "runs")
    workers = [ScriptedWorker(federation.address, name).open() for name in GOOD]
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(2.0):
            for worker in workers:
                worker.send(heartbeat=fleet_pb2.Heartbeat())

    threads = [threading.Thread(target=_work_honestly, args=(worker,), daemon=True) for worker in workers]
    threads.append(threading.Thread(target=beat, daemon=True))
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for worker in workers:
        worker.cut()
    for thread in threads:
        thread.join(10)


# -- ten ways to be bad: each gets the task, the honest answer to it, and its worker


def _whole(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays, **numbers: float) -> None:
    worker.answer(task, arrays, **{"num_examples": 10, "loss": 0.5, **numbers})


def _announced(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays, **lies: Any) -> None:
    content, blob = content_of(arrays, num_examples=10)
    announce(content, blob)
    for name, value in lies.items():
        setattr(content.blob, name, value)
    worker.offer(task.task_id, content)
    worker.receive("verdict")


def not_finite(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    name = next(name for name, array in arrays.items() if array.dtype.kind == "f")
    poison = arrays[name].copy()
    poison.flat[0] = np.nan
    _whole(worker, task, {**arrays, name: poison})


def norm_outlier(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    _whole(worker, task, {name: np.full_like(array, 60.0) for name, array in arrays.items()})


def wrong_type(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    _announced(worker, task, {name: array.astype(np.float16) for name, array in arrays.items()})


def wrong_manifest(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    _announced(worker, task, dict(list(arrays.items())[1:]))


def oversized(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    content, blob = content_of(arrays, num_examples=10)
    content.arrays["more"].tensors.add(name="x", dtype=1, shape=[1 << 30])
    content.array_order.append("more")
    content.blob.size_bytes = len(blob) + (1 << 32)
    worker.offer(task.task_id, content)
    worker.receive("verdict")


def truncated(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    content, blob = content_of(arrays, num_examples=10)
    announce(content, blob[:-4])
    worker.offer(task.task_id, content)
    worker.receive("verdict")


def wrong_digest(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    content, blob = content_of(arrays, num_examples=10)
    content.blob.xxh3_128 = Checksum(b"another").digest()
    worker.offer(task.task_id, content)
    worker.upload(blob)
    worker.receive("verdict")


def duplicated(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    content, _ = content_of(arrays, num_examples=10)
    worker.offer(task.task_id, content)
    worker.offer(task.task_id, content)
    worker.receive("verdict")


def replayed(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    content, _ = content_of(arrays, num_examples=10)
    worker.offer(task.task_id.replace(task.run_id, "reference"), content)
    worker.receive("verdict")


def late(worker: ScriptedWorker, task: fleet_pb2.Task, arrays: Arrays) -> None:
    content, _ = content_of(arrays, num_examples=10)
    worker.receive("cancel")
    for _ in range(2):  # once may happen to anybody
        worker.offer(task.task_id, content)
        worker.receive("verdict")


KINDS: tuple[Callable[[ScriptedWorker, fleet_pb2.Task, Arrays], None], ...] = (
    *(not_finite, norm_outlier, wrong_type, wrong_manifest, oversized, truncated, wrong_digest),
    *(duplicated, replayed, late),
)


def _run(federation: Any, run_id: str, *options: str) -> dict[str, Any]:
    common = ("--preset", "tiny", "--seed", "3", "--workers", "5", "--min-workers", "4", "--run-id", run_id)
    submitted = federation.command("submit", "--address", federation.address, *common, *options)
    assert submitted.returncode == 0, submitted.stderr
    end = federation.wait_for(run_id, "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    report: dict[str, Any] = federation.report(run_id)
    return report


def _misbehave(worker: ScriptedWorker, kind: Callable[..., None]) -> None:
    try:
        task, model = worker.task()
        kind(worker, task, _trained(model, worker.name, task.round))
        for _ in worker.frames():  # goes on listening, as a worker does
            pass
    except (grpc.RpcError, AssertionError, ValueError):
        return  # the test is over


@pytest.mark.usefixtures("good")
def test_one_bad_worker_of_five_leaves_no_trace_in_the_model(federation: Any) -> None:
    reference = _run(federation, "reference", "--join-timeout-s", "1")
    expected = [view["model_sha256"] for view in reference["rounds"]]
    assert len(expected) == 2
    for kind in KINDS:
        name = kind.__name__
        with ScriptedWorker(federation.address, BAD) as bad:
            bad.open()
            misbehaviour = threading.Thread(target=_misbehave, args=(bad, kind), daemon=True)
            misbehaviour.start()
            report = _run(federation, name, "--round-timeout-s", "8" if kind is late else "100")
        misbehaviour.join(10)
        assert [view["model_sha256"] for view in report["rounds"]] == expected, name
        events = federation.events(name)
        told = [e.worker_quarantined for e in events if e.WhichOneof("payload") == "worker_quarantined"]
        assert [(event.name, bool(event.reason)) for event in told] == [(BAD, True)], name
        view = next(view for view in fold_all(events).workers if view.name == BAD)
        assert view.refused >= 1, name
        assert view.quarantined == told[0].reason, name
        asked = [e.round_started.workers for e in events if e.WhichOneof("payload") == "round_started"]
        assert BAD in asked[0], name
        assert BAD not in asked[1] or kind is late, name
