"""What FedProx and SCAFFOLD do to a worker's gradients; numbers are computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from neuro_engine.precision import FP16, loss_scaler
from worker.drift import MAX_CONTROL, Controlled, add_proximal_term


class Point(nn.Module):
    """A parameter w that is to become `aim`: the loss is (w - aim)^2 / 2, its gradient w - aim. A buffer beside it."""

    def __init__(self, start=0.0, aim=4.0):
        super().__init__()
        self.w, self.aim = nn.Parameter(torch.tensor([start])), aim
        self.register_buffer("mean", torch.zeros(2))

    def step(self, optimizer, scaler=None):
        optimizer.zero_grad(set_to_none=True)
        loss = ((self.w - self.aim) ** 2).sum() / 2
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return self.w.item()


def _sgd(point, **how):
    return torch.optim.SGD(point.parameters(), lr=0.5, **how)


def _arrays(w):
    return {"w": np.array([w], np.float32), "mean": np.zeros(2, np.float32)}


@pytest.mark.parametrize("scaled", [False, True])
def test_the_proximal_term_pulls_towards_the_global_model(scaled):
    point = Point(start=1.0)
    optimizer, scaler = _sgd(point), loss_scaler(FP16) if scaled else None
    add_proximal_term(optimizer, 0.5)
    assert point.step(optimizer, scaler) == 2.5  # gradient -3, nothing to pull back yet
    assert point.step(optimizer, scaler) == 2.875  # -1.5 + 0.5 * 1.5 = -0.75
    assert point.step(optimizer, scaler) == 2.96875  # -1.125 + 0.5 * 1.875 = -0.1875


def test_no_proximal_term_is_no_hook():
    point, plain = Point(), Point()
    optimizer = _sgd(point)
    add_proximal_term(optimizer, 0.0)
    assert [point.step(optimizer) for _ in range(3)] == [plain.step(_sgd(plain)) for _ in range(3)]
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("scaled", [False, True])
def test_scaffold_steps_along_corrected_gradients_and_keeps_the_mean_of_its_own(scaled):
    point = Point()
    optimizer, scaler = _sgd(point), loss_scaler(FP16) if scaled else None
    controlled = Controlled(_arrays(2.0), _arrays(1.0))
    controlled.attach(point, optimizer)
    assert point.step(optimizer, scaler) == 1.5  # gradient -4, and c - c_i = 1 on top
    assert point.step(optimizer, scaler) == 2.25  # -2.5 + 1
    change, own = controlled.result()
    assert own["w"].tolist() == [-3.25]  # the mean of -4 and -2.5
    assert change["w"].tolist() == [-4.25]
    assert change["mean"].tolist() == own["mean"].tolist() == [0, 0]
    x, y, k, lr = 0.0, 2.25, 2, 0.5
    assert own["w"].item() == 1.0 - 2.0 + (x - y) / (k * lr), "the paper's formula"


def test_a_worker_begins_with_no_control_of_its_own():
    point = Point()
    controlled = Controlled(_arrays(0.0), {})
    optimizer = _sgd(point)
    controlled.attach(point, optimizer)
    assert point.step(optimizer) == 2.0
    change, own = controlled.result()
    assert change["w"].tolist() == own["w"].tolist() == [-4.0]


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_the_control_is_of_gradients_whatever_the_optimizer(make):
    """With c = c_i nothing is corrected; the optimizer scales its steps, its control is that of the gradients."""
    point, plain = Point(), Point()
    optimizer, other = make(point.parameters(), lr=0.1), make(plain.parameters(), lr=0.1)
    controlled = Controlled(_arrays(3.0), _arrays(3.0))
    controlled.attach(point, optimizer)
    gradients = []
    for _ in range(3):
        gradients.append(plain.w.item() - 4.0)
        assert point.step(optimizer) == plain.step(other)
    _, own = controlled.result()
    assert own["w"].item() == pytest.approx(np.mean(gradients), rel=1e-6)


def test_a_step_that_overflows_counts_for_nothing():
    point = Point()
    optimizer, scaler = _sgd(point), loss_scaler(FP16)
    controlled = Controlled(_arrays(0.0), _arrays(1.0))
    controlled.attach(point, optimizer)
    add_proximal_term(optimizer, 0.5)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale((point.w * torch.tensor(float("inf"))).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    change, own = controlled.result()
    assert (point.w.item(), change["w"].item(), own["w"].item()) == (0.0, 0.0, 1.0)


def test_a_control_is_bounded():
    point = Point(aim=1000.0)
    controlled = Controlled(_arrays(0.0), _arrays(MAX_CONTROL))
    optimizer = _sgd(point)
    controlled.attach(point, optimizer)
    point.step(optimizer)
    change, own = controlled.result()
    assert (own["w"].item(), change["w"].item()) == (-MAX_CONTROL, -2 * MAX_CONTROL)


def test_what_is_kept_is_what_the_aggregator_sums_up():
    rng = np.random.default_rng(0)
    own, total = {}, np.zeros(1, np.float32)
    for aim in rng.normal(size=20):
        point = Point(aim=float(aim))
        optimizer = _sgd(point)
        controlled = Controlled(_arrays(0.3), own)
        controlled.attach(point, optimizer)
        point.step(optimizer)
        change, own = controlled.result()
        total = total + change["w"]
    assert own["w"].tobytes() == total.tobytes()


def test_a_frozen_parameter_has_no_control():
    point = Point()
    point.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    control = {**_arrays(0.0), "frozen": np.ones(1, np.float32)}
    optimizer = torch.optim.SGD([p for p in point.parameters() if p.requires_grad], lr=0.5)
    controlled = Controlled(control, {})
    controlled.attach(point, optimizer)
    point.step(optimizer)
    change, own = controlled.result()
    assert (change["frozen"].item(), own["frozen"].item()) == (0.0, 0.0)
