"""The ClientApp: what a message says of the work."""

import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from neurofed import flower, metrics, spec
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
