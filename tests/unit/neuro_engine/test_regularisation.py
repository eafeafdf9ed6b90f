import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.regularisation import collect_spikes, firing_rate, rate_penalty

DTYPES = [torch.float16, torch.float32, torch.float64]


def _spikes(count, shape=(4, 2, 5), dtype=torch.float64):
    spikes = torch.zeros(shape, dtype=dtype)
    spikes.view(-1)[:count] = 1
    return spikes.requires_grad_()


def test_only_layers_above_the_target_pay_and_only_they_get_a_gradient():
    busy, lazy = _spikes(20), _spikes(2)  # rates 0.5 and 0.05
    penalty = rate_penalty([busy, lazy], target=0.1, weight=3.0)
    assert penalty.item() == pytest.approx(3 * 0.4**2 / 2, rel=1e-12)
    penalty.backward()
    # d/ds of 3 (mean(s) - 0.1)^2 / 2 for one of 40 spikes
    assert torch.allclose(busy.grad, torch.full_like(busy, 3 * 0.4 / 40), rtol=1e-12, atol=0)
    assert not lazy.grad.any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.floats(0, 1),
    st.floats(0, 10),
    st.sampled_from([(4, 2, 5), (2, 2, 1, 2, 5)]),
)
def test_value_and_gradient_are_those_of_plain_autograd(counts, target, weight, shape):
    spikes = [_spikes(count, shape) for count in counts]
    penalty = rate_penalty(iter(spikes), target, weight)
    wanted = weight * torch.stack([(s.mean() - target).clamp(min=0) ** 2 for s in spikes]).mean()
    assert torch.allclose(penalty, wanted, rtol=1e-12, atol=1e-15)
    for a, b in zip(torch.autograd.grad(penalty, spikes), torch.autograd.grad(wanted, spikes), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_is_one_number_in_the_type_of_the_spikes(dtype):
    spikes = _spikes(20, dtype=dtype)
    (grad,) = torch.autograd.grad(rate_penalty([spikes], 0.0), spikes)
    assert grad.dtype == dtype
    assert set(grad.stride()) == {0}


def test_rates_of_16_bit_spikes_are_exact_where_their_sum_would_overflow():
    spikes = torch.ones(4, 50_000, dtype=torch.float16)
    spikes[0] = 0
    assert firing_rate(spikes).item() == 0.75
    assert firing_rate(spikes).dtype == torch.float32


@pytest.mark.parametrize(
    ("spikes", "target", "weight", "message"),
    [
        ([], 0.1, 1.0, "at least one layer"),
        ([torch.zeros(0, 3)], 0.1, 1.0, r"got none: \(0, 3\)"),
        ([torch.zeros(1)], 1.5, 1.0, "target"),
        ([torch.zeros(1)], -0.1, 1.0, "target"),
        ([torch.zeros(1)], 0.1, -1.0, "weight"),
    ],
)
def test_what_has_no_penalty_is_refused(spikes, target, weight, message):
    with pytest.raises(ValueError, match=message):
        rate_penalty(spikes, target, weight)


def _network():
    torch.manual_seed(0)
    return SpikingNetwork(
        {
            "a": SpikingConv2d(1, 4, 3, padding=1, analog_input=True),
            "pool": MaxPool2d(2),
            "flatten": Flatten(),
            "b": SpikingLinear(4 * 4 * 4, 10),
            "out": Readout(10, 3),
        }
    )


def test_spikes_of_spiking_layers_alone_are_collected_in_order():
    network, x = _network(), torch.rand(3, 2, 1, 8, 8)
    with collect_spikes(network) as spikes:
        network(x)
    assert [s.shape for s in spikes] == [(3, 2, 4, 8, 8), (3, 2, 10)]
    assert torch.equal(spikes[0], network.layers["a"](x))
    network(x)
    assert len(spikes) == 2, "nothing is collected after the block"


def test_hooks_go_even_where_the_block_fails():
    network = _network()
    with pytest.raises(KeyError), collect_spikes(network):
        raise KeyError
    assert not any(m._forward_hooks for m in network.modules())


def test_training_on_the_penalty_alone_brings_the_rate_down_to_the_target():
    network, x = _network(), torch.rand(3, 8, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad():
        network.layers["a"].bias.fill_(1.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    rates = []
    for _ in range(60):
        with collect_spikes(network.layers["a"]) as spikes:
            network(x)
        rates.append(firing_rate(spikes[0]).item())
        optimizer.zero_grad()
        rate_penalty(spikes, target=0.2, weight=10.0).backward()
        optimizer.step()
    assert rates[0] > 0.4
    assert 0.1 < rates[-1] <= 0.25
