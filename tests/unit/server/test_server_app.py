"""The ServerApp with workers in this process: what goes out, what is kept, and what a resumed run begins with."""

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from support_personal import keep_the_head

from neurofed import flower, spec
from server.checkpoint import CheckpointStore
from server.server_app import Services, run_app
from worker.client_app import build_app

WORKERS = 2


class Enough(Exception):  # noqa: N818 (not an error: a wish)
    """Ends a run between two rounds."""


class LocalGrid:
    """Workers that are asked one after the other, each with a folder of its own."""

    def __init__(self, folder):
        self.folder, self.names = folder, set()
        self._apps = {node_id: build_app() for node_id in range(10, 10 + WORKERS)}

    def get_nodes(self):
        return [NodeInfo(node_id=node_id, name=f"worker-{node_id}") for node_id in self._apps]

    def send_and_receive(self, messages, *, timeout=None):
        for message in list(messages):
            node_id = message.metadata.dst_node_id
            self.names |= set(flower.to_numpy(message.content["arrays"]))
            place = {"state-dir": str(self.folder / str(node_id)), "run-id": "r"}
            number = message.content["config"]["server-round"]
            flower.set_identity(1, node_id)
            task = flower.task_message(
                message.content, task_id="t", run_number=1, node_id=node_id, kind="train", group=str(number)
            )
            reply = self._apps[node_id](task, Context(1, node_id, place, RecordDict(), {}))
            yield reply
            flower.set_identity(1, flower.SERVER_NODE_ID)


def _trained(folder, rounds, stop_after=0, **chosen):
    """The newest checkpoint of a run in `folder`, and the grid it ran on."""
    run = spec.default_spec()
    run.preset, run.trace, run.workers, run.rounds, run.seed = "tiny", False, WORKERS, rounds, 5
    run.settings.update({"train_clips": "16", "test_clips": "4", "local_epochs": "1"})
    for name, value in chosen.items():
        setattr(run, name, value)
    checkpoints, grid, left = CheckpointStore(folder / "checkpoints"), LocalGrid(folder), [stop_after]

    def between_rounds():
        left[0] -= 1
        if not left[0]:
            raise Enough

    services = Services(lambda _: None, checkpoints, between_rounds)
    if stop_after:
        with pytest.raises(Enough):
            run_app(services, grid, run, 1)
    else:
        run_app(services, grid, run, 1)
    return checkpoints.newest(), grid


def _bits(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.fixture
def with_head(monkeypatch):
    keep_the_head(monkeypatch)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fedprox"])
def test_personal_parts_are_never_sent_and_a_resumed_run_has_the_same_bits(with_head, tmp_path, strategy):
    one, grid = _trained(tmp_path / "one", 1, strategy=strategy)
    whole, _ = _trained(tmp_path / "whole", 3, strategy=strategy)
    heads = {name for name in one.model if "readout" in name}
    assert heads
    assert grid.names == one.model.keys() - heads
    assert all(np.array_equal(whole.model[name], one.model[name]) for name in heads), "the initial ones"
    assert any(not np.array_equal(whole.model[name], one.model[name]) for name in grid.names)
    _trained(tmp_path / "cut", 3, stop_after=2, strategy=strategy)
    resumed, _ = _trained(tmp_path / "cut", 3, strategy=strategy)
    assert _bits(resumed.model) == _bits(whole.model)
    assert _bits(resumed.memory) == _bits(whole.memory)
