"""The ClientApp: what a message says of the work."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict
from support_personal import keep_the_head

from neurofed import flower, metrics, spec, statefile
from neurofed.errors import DataError
from worker.client_app import build_app
from workloads import registry
from workloads.parameters import state_arrays


@pytest.fixture(scope="module")
def train():
    """Does a task with some entries of its configuration and returns the numbers reported."""
    run = spec.default_spec()
    run.preset, run.trace = "tiny", False
    workload = registry.load(run.workload)
    model = workload.prepare(workload.settings("tiny", {}), 0).build_model()
    app, context = build_app(), Context(1, 2, {}, RecordDict(), {})

    def act(**entries):
        flower.set_identity(1, 2)
        config = {**spec.to_run_config(run), "server-round": 1, "partition-id": 0, "num-partitions": 5, **entries}
        records = RecordDict({"arrays": flower.to_record(state_arrays(model)), "config": ConfigRecord(config)})
        message = flower.task_message(records, task_id="t", run_number=1, node_id=2, kind="train", group="1")
        return dict(app(message, context).content["metrics"])

    return act


def test_a_message_without_a_word_asks_for_all_the_work_and_one_with_a_fraction_for_less(train):
    everything = train()
    assert (everything[metrics.STEPS], everything[metrics.NUM_EXAMPLES]) == (12, 48), "two passes in batches of 8"
    some = train(work=0.4)
    assert (some[metrics.STEPS], some[metrics.NUM_EXAMPLES]) == (5, 40)


@pytest.mark.parametrize("work", [0.0, -0.5, 1.5, float("nan"), "all", True])
def test_what_is_no_fraction_is_refused(train, work):
    with pytest.raises(DataError, match=r"work: expected a fraction in \(0, 1\]"):
        train(work=work)


# -- what rules ask of workers


@pytest.fixture(scope="module")
def shared_model():
    workload = registry.load(spec.DEFAULT_WORKLOAD)
    task = workload.prepare(workload.settings("tiny", {}), 0)
    model = task.build_model()
    task.calibrate(model)
    return state_arrays(model)


def _client(model, state_dir=None, run_id="r"):
    """A worker that has just started, as a function of (round, control, entries) -> (arrays, control)."""
    run = spec.default_spec()
    run.preset, run.trace = "tiny", False
    place = {} if state_dir is None else {"state-dir": str(state_dir), "run-id": run_id}
    app, context = build_app(), Context(1, 2, place, RecordDict(), {})

    def act(number, control=None, part=0, **entries):
        flower.set_identity(1, 2)
        config = {**spec.to_run_config(run), "server-round": number, "partition-id": part, "num-partitions": 5}
        records = {"arrays": flower.to_record(model), "config": ConfigRecord({**config, "work": 0.2, **entries})}
        if control is not None:
            records["control"] = flower.to_record({k: np.full_like(v, control) for k, v in model.items()})
        message = flower.task_message(
            RecordDict(records), task_id="t", run_number=1, node_id=2, kind="train", group="1"
        )
        content = app(message, context).content
        return {name: flower.to_numpy(record) for name, record in flower.array_records(content).items()}

    return act


def _bits(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


def test_a_proximal_term_is_taken_from_the_tasks_configuration(shared_model):
    client = _client(shared_model)
    plain, none, some = (client(1, **entries)["arrays"] for entries in ({}, {"proximal-mu": 0.0}, {"proximal-mu": 5.0}))
    assert _bits(plain) == _bits(none) != _bits(some)


@pytest.mark.parametrize("mu", [-1.0, float("nan"), float("inf"), "much", 1])
def test_what_is_no_weight_is_refused(shared_model, mu):
    with pytest.raises(DataError, match="proximal-mu: expected a finite number of at least 0"):
        _client(shared_model)(1, **{"proximal-mu": mu})


def test_no_control_comes_back_where_none_went(shared_model, tmp_path):
    assert list(_client(shared_model, tmp_path)(1)) == ["arrays"]
    assert not list(tmp_path.iterdir())


def test_a_control_is_kept_across_a_restart_and_a_task_done_again(shared_model, tmp_path):
    client = _client(shared_model, tmp_path)
    first, second = client(1, 0.0), client(2, 0.01)
    assert set(first) == {"arrays", "control"}
    assert first["control"].keys() == shared_model.keys()
    assert any(np.any(change) for change in first["control"].values())
    for again in (client, _client(shared_model, tmp_path)):  # the same process, and one that has just started
        for _ in range(2):
            repeated = again(2, 0.01)
            assert {name: _bits(arrays) for name, arrays in repeated.items()} == {
                name: _bits(arrays) for name, arrays in second.items()
            }
    forgetful = _client(shared_model, tmp_path, run_id="other")(2, 0.01)
    assert _bits(forgetful["arrays"]) != _bits(second["arrays"]), "a run of its own begins anew"


def test_a_control_belongs_to_a_part_of_the_data(shared_model, tmp_path):
    client = _client(shared_model, tmp_path)
    client(1, 0.0, part=0)
    moved = client(2, 0.01, part=1)
    fresh = _client(shared_model, tmp_path / "other")(2, 0.01, part=1)
    assert _bits(moved["control"]) == _bits(fresh["control"])


# -- personal parts


@pytest.fixture
def with_head(monkeypatch):
    keep_the_head(monkeypatch)


def test_personal_parts_stay_on_the_worker_and_are_trained_on(with_head, shared_model, tmp_path):
    heads = {name for name in shared_model if "readout" in name}
    assert heads
    shared = {name: array for name, array in shared_model.items() if name not in heads}
    client = _client(shared, tmp_path)
    first, second = client(1)["arrays"], client(2)["arrays"]
    assert first.keys() == second.keys() == shared.keys()
    again = _client(shared, tmp_path)(2)["arrays"]
    assert _bits(again) == _bits(second), "it goes on after a restart with the head it had"
    forgetful = _client(shared, tmp_path / "other")(2)["arrays"]
    assert _bits(forgetful) != _bits(second)
    kept, _ = statefile.read(tmp_path / "r" / "personal-part-00000" / "round-000001.safetensors")
    assert kept.keys() == heads
