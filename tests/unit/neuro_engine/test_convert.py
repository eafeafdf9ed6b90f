"""Networks of other libraries: the same outputs on the same input, by the libraries themselves where they are there."""

import warnings
from types import ModuleType

import pytest
import torch
from support import need
from torch import Tensor, nn

from neuro_engine.convert import from_snntorch, from_spikingjelly
from neuro_engine.network import SpikingNetwork
from neuro_engine.surrogate import Surrogate, atan, fast_sigmoid, rectangle, sigmoid, triangle

STEPS, BATCH = 12, 3


def frames(channels: int = 2, side: int = 12) -> Tensor:
    return torch.rand(STEPS, BATCH, channels, side, side) * 3


@pytest.fixture
def snn() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return need("snntorch", "interop")


@pytest.fixture
def sj() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = need("spikingjelly.activation_based", "interop")
        from spikingjelly.activation_based import functional, layer, neuron, surrogate  # noqa: F401
    return base


def by_step(module: nn.Module, x: Tensor) -> Tensor:
    outputs = [module(step) for step in x]
    return torch.stack([o[0] if isinstance(o, tuple) else o for o in outputs])


def agree(network: SpikingNetwork, module: nn.Module, x: Tensor, expected: Tensor | None = None) -> None:
    expected = by_step(module, x) if expected is None else expected
    assert 0 < expected.count_nonzero() < expected.numel()
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)


def settle(norm: nn.Module) -> None:
    """Statistics and a map that do something."""
    for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(tensor, 0.3, 0.9)


# snnTorch


NEURONS = {
    "leaky subtract": lambda snn, **o: snn.Leaky(0.8, threshold=0.1, init_hidden=True, **o),
    "leaky zero": lambda snn, **o: snn.Leaky(0.8, threshold=0.1, reset_mechanism="zero", init_hidden=True, **o),
    "leaky none": lambda snn, **o: snn.Leaky(0.7, threshold=0.2, reset_mechanism="none", init_hidden=True, **o),
    "synaptic": lambda snn, **o: snn.Synaptic(0.5, 0.8, threshold=0.2, init_hidden=True, **o),
}


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
def test_snntorch_spikes_are_the_same(snn, neuron) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        neuron(snn),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False),
        nn.Identity(),
        neuron(snn),
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(64, 10),
        neuron(snn),
    )
    agree(from_snntorch(module), module, frames())


def test_snntorch_pools_between_convolution_and_neurons(snn) -> None:
    """The order of snnTorch's own tutorials."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 5),
        nn.MaxPool2d(2),
        snn.Leaky(0.9, threshold=0.5, init_hidden=True),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.AvgPool2d(2),
        snn.Leaky(0.9, threshold=0.5, init_hidden=True),
        nn.Flatten(),
        nn.Linear(8, 10),
        snn.Leaky(0.9, threshold=0.1, init_hidden=True, output=True),
    )
    settle(module[4])
    module.eval()
    agree(from_snntorch(module), module, frames())


def test_snntorch_gradients_are_the_same(snn) -> None:
    torch.manual_seed(0)
    neurons = [snn.Leaky(0.8, spike_grad=snn.surrogate.fast_sigmoid(5), init_hidden=True) for _ in range(2)]
    module = nn.Sequential(nn.Linear(20, 30), neurons[0], nn.Linear(30, 10), neurons[1])
    network, x = from_snntorch(module), torch.rand(STEPS, BATCH, 20) * 4
    weight = torch.rand(STEPS, BATCH, 10)
    (network(x) * weight).sum().backward()
    (by_step(module, x) * weight).sum().backward()
    for name in ("0", "2"):
        torch.testing.assert_close(
            network.layers[name].weight.grad, module[int(name)].weight.grad, rtol=1e-4, atol=1e-5
        )


def test_snntorch_learned_betas_stay_learned(snn) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(20, 10), snn.Leaky(0.8, learn_beta=True, reset_mechanism="zero", init_hidden=True))
    network, x = from_snntorch(module), torch.rand(STEPS, BATCH, 20) * 3
    agree(network, module, x)
    network(x).sum().backward()
    assert network.layers["0"].leak_logit.grad.abs() > 0


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda s: None, atan(2.0)),
        (lambda s: s.atan(alpha=3.0), atan(3.0)),
        (lambda s: s.fast_sigmoid(slope=10), fast_sigmoid(10.0)),
        (lambda s: s.sigmoid(slope=7), sigmoid(7.0)),
    ],
)
def test_snntorch_surrogates(snn, make, expected: Surrogate) -> None:
    module = nn.Sequential(nn.Linear(2, 2), snn.Leaky(0.5, spike_grad=make(snn.surrogate), init_hidden=True))
    assert from_snntorch(module).layers["0"].surrogate == expected
    assert from_snntorch(module, surrogate=triangle()).layers["0"].surrogate == triangle()


def test_a_linear_layer_at_the_end_is_averaged_over_time(snn) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(20, 10), snn.Leaky(0.8, init_hidden=True), nn.Linear(10, 4))
    x = torch.rand(STEPS, BATCH, 20) * 3
    torch.testing.assert_close(from_snntorch(module)(x), by_step(module, x).mean(0), rtol=0, atol=1e-5)


def test_names_input_mode_and_training_mode(snn) -> None:
    module = nn.Sequential(nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.5)), nn.Linear(4, 2), snn.Leaky(0.5)).eval()
    network = from_snntorch(module, analog_input=True)
    assert [(name, layer.analog_input) for name, layer in network.engine_layers()] == [("0_0", True), ("1", False)]
    assert not network.training
    assert not from_snntorch(module).layers["0_0"].analog_input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda snn: snn.Leaky(0.5, reset_delay=False), "1: expected Leaky with reset_delay=True, got False"),
        (lambda snn: snn.Leaky(0.5, learn_threshold=True), "expected a fixed threshold"),
        (lambda snn: snn.Leaky(0.5, learn_beta=True), "expected a fixed beta where the reset subtracts"),
        (lambda snn: snn.Leaky(torch.rand(4)), "1: expected one beta for all neurons"),
        (lambda snn: snn.Leaky(0.5, graded_spikes_factor=2.0), "expected spikes of 1"),
        (lambda snn: snn.Leaky(0.5, spike_grad=snn.surrogate.triangular()), "got triangular: pass surrogate"),
        (lambda snn: snn.Synaptic(0.5, 0.5, reset_mechanism="zero"), "which drops input too"),
        (lambda snn: snn.Alpha(0.9, 0.5), "1: expected neurons after the synapse 0"),
        (lambda snn: nn.ReLU(), "1: expected neurons after the synapse 0"),
    ],
)
def test_what_snntorch_has_and_the_engine_has_not_is_refused(snn, make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_snntorch(nn.Sequential(nn.Linear(4, 4), make(snn)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(2, 2), "expected an nn.Sequential, got Linear"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "0: expected neurons after it, or a Linear as the last layer"),
        (nn.Sequential(nn.MaxPool2d(3, 2)), "0: expected pools side by side"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode=False, got True"),
        (nn.Sequential(nn.ReLU()), "0: expected a synapse, a pool"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "1: expected neurons after the synapse 0"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, eps=1e-3)), "eps=1e-05, got 0.001"),
    ],
)
def test_modules_without_an_equal_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_snntorch(module)


def test_geometry_without_an_equal_is_refused(snn) -> None:
    for synapse, message in [
        (nn.Conv2d(1, 2, (3, 1)), "kernel_size"),
        (nn.Conv2d(1, 2, 3, padding="same"), "padding"),
        (nn.Conv2d(1, 2, 3, dilation=2), "dilation"),
        (nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), "padding_mode"),
    ]:
        with pytest.raises(ValueError, match=f"0: expected .*{message}"):
            from_snntorch(nn.Sequential(synapse, snn.Leaky(0.5)))
    with pytest.raises(ValueError, match="before neurons, got none"):
        from_snntorch(nn.Sequential(snn.Leaky(0.5)))


def test_global_pools_and_dropout_in_evaluation(snn) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        snn.Leaky(0.8, threshold=0.3, init_hidden=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
        snn.Leaky(0.8, threshold=0.2, init_hidden=True),
    ).eval()
    agree(from_snntorch(module), module, frames())


# SpikingJelly


NODES = {
    "IF": lambda sj, **o: sj.neuron.IFNode(v_threshold=0.7, **o),
    "IF soft": lambda sj, **o: sj.neuron.IFNode(v_threshold=0.7, v_reset=None, detach_reset=True, **o),
    "LIF": lambda sj, **o: sj.neuron.LIFNode(v_threshold=0.3, **o),
    "LIF undecayed": lambda sj, **o: sj.neuron.LIFNode(tau=3.0, decay_input=False, v_reset=None, v_threshold=0.7, **o),
    "PLIF": lambda sj, **o: sj.neuron.ParametricLIFNode(init_tau=2.5, v_threshold=0.3, **o),
    "PLIF undecayed": lambda sj, **o: sj.neuron.ParametricLIFNode(decay_input=False, v_threshold=0.7, **o),
}


def jelly(sj: ModuleType, node, mode: str) -> nn.Sequential:
    torch.manual_seed(0)
    layer = sj.layer
    module = nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1, bias=False),
        layer.BatchNorm2d(6),
        node(sj),
        layer.MaxPool2d(2),
        layer.Conv2d(6, 6, 3, padding=1, groups=2),
        layer.BatchNorm2d(6),
        node(sj),
        layer.AvgPool2d(3),
        layer.Flatten(),
        layer.Linear(24, 10),
        node(sj),
    )
    sj.functional.set_step_mode(module, mode)
    settle(module[1])
    settle(module[5])
    return module


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("node", NODES.values(), ids=NODES.keys())
def test_spikingjelly_spikes_are_the_same(sj, node, mode: str) -> None:
    module = jelly(sj, node, mode).eval()
    x = frames()
    agree(from_spikingjelly(module), module, x, module(x) if mode == "m" else by_step(module, x))


def test_spikingjelly_training_is_the_same(sj) -> None:
    """Batch statistics over time and batch, gradients of weights, norms and leaks, and the running statistics."""
    module = jelly(sj, NODES["PLIF"], "m").double()
    network, x = from_spikingjelly(module).double(), frames().double()
    expected, got = module(x), network(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    weight = torch.rand_like(expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    for name in ("0", "4", "9"):
        torch.testing.assert_close(network.layers[name].weight.grad, module[int(name)].weight.grad)
    torch.testing.assert_close(-network.layers["4"].leak_logit.grad, module[6].w.grad)
    torch.testing.assert_close(network.layers["0"].norm.weight.grad, module[1].weight.grad)
    network.eval(), module.eval()
    sj.functional.reset_net(module)
    torch.testing.assert_close(network(x), module(x), rtol=0, atol=1e-5)


def test_spikingjelly_containers_and_threshold_norms(sj) -> None:
    torch.manual_seed(0)
    layer = sj.layer
    module = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)),
        sj.neuron.LIFNode(v_threshold=0.4, step_mode="m"),
        layer.Conv2d(6, 4, 3, step_mode="m"),
        layer.ThresholdDependentBatchNorm2d(1.0, 0.4, 4),
        sj.neuron.IFNode(v_threshold=0.4, step_mode="m"),
    )
    network, x = from_spikingjelly(module), frames()
    assert [name for name, _ in network.engine_layers()] == ["0_0", "2"]
    agree(network, module, x, module(x))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda s: s.ATan(3.0), atan(3.0)),
        (lambda s: s.Sigmoid(5.0), sigmoid(5.0)),
        (lambda s: s.PiecewiseQuadratic(2.0), triangle(0.5)),
        (lambda s: s.Rect(2.0), rectangle(2.0)),
        (lambda s: s.SoftSign(2.0), fast_sigmoid(2.0)),
    ],
)
def test_spikingjelly_surrogates(sj, make, expected: Surrogate) -> None:
    function = make(sj.surrogate)
    module = nn.Sequential(nn.Linear(2, 2), sj.neuron.IFNode(surrogate_function=function))
    assert from_spikingjelly(module).layers["0"].surrogate == expected
    x = torch.linspace(-1.03, 1.0, 50, dtype=torch.float64, requires_grad=True)
    function(x).sum().backward()
    torch.testing.assert_close(expected.derivative(x.detach()), x.grad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda sj: sj.neuron.IFNode(v_reset=0.5), "1: expected a reset to 0.0"),
        (lambda sj: sj.neuron.QIFNode(), "1: expected neurons after the synapse 0"),
        (lambda sj: sj.neuron.IFNode(surrogate_function=sj.surrogate.SoftSign(3.0)), "pass surrogate"),
        (lambda sj: sj.neuron.IFNode(surrogate_function=sj.surrogate.Erf()), "pass surrogate"),
    ],
)
def test_what_spikingjelly_has_and_the_engine_has_not_is_refused(sj, make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_spikingjelly(nn.Sequential(nn.Linear(4, 4), make(sj)))
