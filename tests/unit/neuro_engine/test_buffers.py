"""Memory that is used again is never used twice at once."""

import gc

import pytest
import torch

from neuro_engine.calibration import calibrate
from neuro_engine.kernels import buffers
from neuro_engine.kernels.buffers import LEAST_BYTES
from neuro_engine.layers import SpikingConv2d

COUNT = LEAST_BYTES  # float16: two megabytes


@pytest.fixture(autouse=True)
def _own_blocks(monkeypatch):
    monkeypatch.setattr(buffers, "_blocks", buffers._Blocks())


def _address(x):
    return x.untyped_storage().data_ptr()


def test_memory_is_used_again_once_nothing_refers_to_it():
    first = buffers.empty((COUNT,), torch.float16)
    address = _address(first)
    del first
    gc.collect()
    assert _address(buffers.empty((COUNT,), torch.float16)) == address


@pytest.mark.parametrize("keep", ["tensor", "view", "numpy", "autograd"])
def test_memory_in_use_is_left_alone(keep):
    leaf = torch.ones((), dtype=torch.float16, requires_grad=True)
    uses = {
        "tensor": lambda x: x,
        "view": lambda x: x[3:5],
        "numpy": lambda x: x.numpy(),
        "autograd": lambda x: leaf * x,  # keeps `x` for the gradient
    }
    first = buffers.empty((COUNT,), torch.float16).fill_(1)
    address, kept = _address(first), uses[keep](first)
    del first
    gc.collect()
    others = [buffers.empty((COUNT,), torch.float16).fill_(2) for _ in range(3)]
    addresses = [_address(other) for other in others]
    assert address not in addresses
    assert len(set(addresses)) == 3
    if keep == "autograd":
        (grad,) = torch.autograd.grad(kept[:100].sum(), leaf)
        assert grad == 100
    else:
        assert float(torch.as_tensor(kept).sum(dtype=torch.float64)) == len(kept)


def test_maps_have_their_channels_next_to_each_other():
    for shape in ((2, 64, 128, 128), (2, 3, 4, 5), (0, 3, 4, 5)):
        assert buffers.empty(shape, torch.float16).is_contiguous(memory_format=torch.channels_last)
    assert buffers.empty((300, 4000), torch.float32).is_contiguous()
    assert buffers.empty((300, 4000), torch.float32).dtype == torch.float32


def test_blocks_that_are_not_wanted_any_more_are_given_back():
    for size in range(1, 9):
        buffers.empty((size * 2 * COUNT,), torch.float16)
        gc.collect()
    assert [len(block) for block in buffers._blocks._blocks] == [2 * 8 * 2 * COUNT]


def test_the_memory_of_a_training_step_is_that_of_the_one_before():
    torch.manual_seed(0)
    layer = SpikingConv2d(2, 64, 3, padding=1, analog_input=True)
    calibrate(layer, x := torch.rand(4, 4, 2, 64, 64), 0.1)
    held, gradients = [], []
    for _ in range(4):
        layer.zero_grad()
        layer(x).square().sum().backward()
        held.append(sorted(map(len, buffers._blocks._blocks)))
        gradients.append(layer.weight.grad.clone())
    assert held[1] == held[3]
    assert all(torch.equal(g, gradients[0]) for g in gradients)
