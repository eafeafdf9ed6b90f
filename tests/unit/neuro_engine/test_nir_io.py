"""Networks to NIR and back: the same outputs, and NIR's own equations."""

import numpy as np
import pytest
import torch
from support import need
from torch import Tensor, nn

from neuro_engine.layers import (
    AvgPool2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Readout,
    Residual,
    SpikingConv2d,
    SpikingConvTranspose2d,
    SpikingLinear,
    SpikingRecurrent,
)
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF, alif, fire, leaky, parametric_lif_node
from neuro_engine.nir_io import from_nir, to_nir
from neuro_engine.surrogate import atan

nir = need("nir", "interop")


def convolutional(norm: str = "weight", neuron: LIF | None = None, groups: int = 2) -> SpikingNetwork:
    return SpikingNetwork(
        {
            "conv1": SpikingConv2d(2, 6, 3, 1, 1, norm=norm, neuron=neuron, surrogate=atan(), analog_input=True),
            "pool": AvgPool2d(2),
            "conv2": SpikingConv2d(6, 4, 3, 2, 1, groups=groups, norm=norm, neuron=neuron),
            "drop": Dropout(0.2, scaled=False),
            "flatten": Flatten(),
            "hidden": SpikingLinear(16, 8, norm=norm, neuron=neuron),
            "readout": Readout(8, 3, leak=0.7),
        }
    )


def frames(dtype: torch.dtype = torch.float32, channels: int = 2) -> Tensor:
    return torch.rand(5, 3, channels, 8, 8, dtype=dtype) * 4


def same(network: SpikingNetwork, x: Tensor, **options: float) -> SpikingNetwork:
    """The network that comes back, after checking that its outputs are the same bit for bit."""
    back = from_nir(to_nir(network, x.shape[2:], **options), **options)
    with torch.no_grad():
        expected = network.eval()(x)
        assert expected.count_nonzero()
        assert torch.equal(back(x), expected)
    return back


NEURONS = {
    "lif": LIF(leak=1 / 3, gain=0.7, threshold=0.3),
    "if": LIF(leak=1.0, threshold=0.4),
    "soft": LIF(leak=0.9, threshold=0.3, reset="soft"),
    "none": LIF(leak=0.9, threshold=0.6, reset="none"),
    "leaky": leaky(0.8, 0.3),
    "current-based": LIF(leak=0.8, gain=0.4, threshold=0.3, synapse_leak=0.6),
    "no memory": LIF(leak=0.0, threshold=0.2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
def test_round_trip_is_exact(neuron: LIF, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    back = same(convolutional(neuron=neuron).to(dtype), frames(dtype))
    assert [name for name, _ in back.engine_layers()] == ["conv1", "conv2", "hidden", "readout"]
    assert back.layers["conv1"].neuron == neuron
    assert back.layers["conv1"].surrogate == atan()
    assert [layer.analog_input for _, layer in back.engine_layers()] == [True, True, False, False]


def test_weight_standardised_layers_come_back_as_plain_ones_with_the_weights_they_used() -> None:
    torch.manual_seed(0)
    network = convolutional("weight", NEURONS["lif"])
    back = same(network, frames())
    weight, _ = network.layers["conv1"].synapse_weights()
    assert torch.equal(back.layers["conv1"].weight, weight)
    assert "gain" not in dict(back.layers["conv1"].named_parameters())


def test_what_comes_back_learns_as_the_network_did() -> None:
    torch.manual_seed(0)
    network, x = convolutional("none", LIF(leak=0.9, threshold=0.05)), frames()
    back = same(network, x)
    for model in (network, back):
        model(x).square().sum().backward()
    for name in ("conv1", "hidden", "readout"):
        assert torch.equal(back.layers[name].weight.grad, network.layers[name].weight.grad)


@pytest.mark.parametrize("norm", ["batch", "threshold"])
def test_batch_norms_are_folded_as_they_are_in_evaluation(norm: str) -> None:
    torch.manual_seed(0)
    network, x = convolutional(norm, LIF(threshold=0.5)).double(), frames(torch.float64)
    network(x)  # moves the running statistics
    before = {key: value.clone() for key, value in network.state_dict().items()}
    back = from_nir(to_nir(network, (2, 8, 8)))
    torch.testing.assert_close(back(x), network.eval()(x), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("decay_input", [True, False])
def test_learned_leaks_become_constants(decay_input: bool) -> None:
    torch.manual_seed(0)
    network = convolutional("none", parametric_lif_node(3.0, decay_input, v_threshold=0.2)).double()
    nn.init.constant_(network.layers["conv1"].leak_logit, 1.1)
    back, x = from_nir(to_nir(network, (2, 8, 8))), frames(torch.float64)
    torch.testing.assert_close(back(x), network.eval()(x), rtol=1e-12, atol=1e-12)
    assert back.layers["conv1"].neuron.leak == pytest.approx(torch.sigmoid(torch.tensor(1.1)).item())


def test_round_trip_through_a_file(tmp_path) -> None:
    torch.manual_seed(0)
    network, x = convolutional(neuron=NEURONS["current-based"], groups=1), frames()
    nir.write(tmp_path / "network.nir", to_nir(network, (2, 8, 8)))
    assert torch.equal(from_nir(nir.read(tmp_path / "network.nir"))(x), network.eval()(x))


def test_residual_blocks_become_nodes_with_two_edges() -> None:
    torch.manual_seed(0)

    def block(shortcut: bool) -> Residual:
        body = {f"conv{n}": SpikingConv2d(4, 4, 3, 1, 1) for n in (1, 2)}
        return Residual(body, {"conv": SpikingConv2d(4, 4, 1)} if shortcut else None)

    network = SpikingNetwork(
        {
            "stem": SpikingConv2d(2, 4, 3, 1, 1, analog_input=True),
            "block1": block(False),
            "block2": block(False),
            "block3": block(True),
            "mean": GlobalAvgPool2d(),
            "readout": Readout(4, 3),
        }
    )
    graph = to_nir(network, (2, 8, 8))
    assert {s for s, t in graph.edges if t == "block2_body_conv1"} == {"stem_neuron", "block1_body_conv2_neuron"}
    x = frames()
    back = from_nir(graph)
    torch.testing.assert_close(back(x), network.eval()(x), rtol=1e-6, atol=1e-7)
    charged = {name: layer.analog_input for name, layer in network.engine_layers()}
    assert {name.split(".")[-1]: layer.analog_input for name, layer in back.engine_layers()} == {
        name.replace(".", "_"): values for name, values in charged.items()
    }


def test_exported_constants_are_those_of_euler_steps() -> None:
    node = to_nir(SpikingNetwork({"a": SpikingLinear(4, 2, neuron=LIF(0.75, 0.5, 1.5))}), (4,), dt=1e-3).nodes[
        "a_neuron"
    ]
    assert type(node).__name__ == "LIF"
    np.testing.assert_allclose(node.tau, [4e-3, 4e-3], rtol=1e-6)
    np.testing.assert_allclose(node.r, [2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(node.v_threshold, [1.5, 1.5])


def foreign(neuron) -> object:
    weight = np.array([[0.5, -0.2, 0.9], [0.3, 0.8, 0.1]])
    return nir.NIRGraph.from_list(nir.Linear(weight), neuron)


def constant(value: float) -> np.ndarray:
    return np.full(2, value)


def test_a_foreign_lif_integrates_by_euler() -> None:
    dt, tau, r = 1e-3, 5e-3, 2.0
    network = from_nir(foreign(nir.LIF(constant(tau), constant(r), constant(0.0), constant(0.4))), dt, reset="soft")
    x = torch.rand(20, 1, 3, dtype=torch.float64)
    current = x @ network.layers["linear"].weight.detach().T
    v, spikes = torch.zeros(1, 2, dtype=torch.float64), []
    for i in current:
        v = v + dt / tau * (r * i - v)
        spikes.append((v >= 0.4).double())
        v = v - 0.4 * spikes[-1]
    assert torch.stack(spikes).sum() > 3
    assert torch.equal(network(x), torch.stack(spikes))


def test_a_foreign_cuba_lif_has_both_time_constants() -> None:
    node = nir.CubaLIF(
        tau_syn=constant(2e-3),
        tau_mem=constant(4e-3),
        r=constant(3.0),
        v_leak=constant(0.0),
        v_threshold=constant(0.3),
        w_in=constant(2.0),
    )
    network, x = from_nir(foreign(node), 1e-3, reset="hard"), torch.rand(9, 2, 3, dtype=torch.float64)
    expected, _ = fire(
        x @ network.layers["linear"].weight.detach().T,
        LIF(leak=0.75, gain=3.0 * 0.25 * 2.0 * 0.5, threshold=0.3, reset="hard", synapse_leak=0.5),
    )
    assert torch.equal(network(x), expected)


def test_a_linear_node_at_the_end_is_a_readout_and_an_integrator_keeps_its_gain() -> None:
    x = torch.rand(4, 2, 3, dtype=torch.float64)
    alone = nir.Affine(np.ones((2, 3)), np.array([1.0, 2.0]))
    torch.testing.assert_close(
        from_nir(nir.NIRGraph.from_list(alone))(x), (x.sum(2, keepdim=True) + torch.tensor([1.0, 2.0])).mean(0)
    )
    integrated = from_nir(foreign(nir.I(constant(0.5))), dt=1.0)
    current = x @ integrated.layers["linear"].weight.detach().T
    torch.testing.assert_close(integrated(x), current.cumsum(0).mean(0))


def test_analog_input_marks_the_first_layers_only() -> None:
    graph = foreign(nir.IF(constant(1e4), constant(0.4)))
    assert from_nir(graph, analog_input=True).layers["linear"].analog_input
    assert not from_nir(graph).layers["linear"].analog_input


def linear(**options: object) -> SpikingNetwork:
    return SpikingNetwork({"a": SpikingLinear(4, 2, **options)})


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (SpikingNetwork({"p": MaxPool2d(2)}), (2, 8, 8), "p: expected a layer that NIR has nodes for .* got MaxPool2d"),
        (SpikingNetwork({"c": SpikingConvTranspose2d(2, 2, 2)}), (2, 8, 8), "c: expected a linear or convolutional"),
        (SpikingNetwork({"r": SpikingRecurrent(4, 2)}), (4,), "r: expected a linear or conv.* got SpikingRecurrent"),
        (SpikingNetwork({"b": Residual({"a": SpikingLinear(4, 4)}, None, "iand")}), (4,), "b: .* adds"),
        (linear(neuron=alif()), (4,), "without adaptation"),
        (linear(neuron=LIF(leak=1.0, synapse_leak=0.5)), (4,), "leaks below 1"),
        (SpikingNetwork({"input": SpikingLinear(4, 2)}), (4,), "two 'input'"),
    ],
)
def test_what_nir_cannot_say_is_refused(network: SpikingNetwork, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_nir(network, shape)


def lif_node(**constants: np.ndarray) -> object:
    given = {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.4}
    return nir.LIF(**({k: constant(v) for k, v in given.items()} | constants))


def graph_of(*nodes: object) -> object:
    return nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))), *nodes)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: graph_of(lif_node(v_leak=constant(0.1))), "v_leak of 0"),
        (lambda: graph_of(lif_node(tau=np.array([1e-3, 2e-3]))), r"expected one tau for all neurons, got 0.001..0.002"),
        (lambda: graph_of(lif_node(tau=constant(1e-5))), "leak of 0..1"),
        (lambda: graph_of(nir.Scale(constant(2.0))), "expected neurons after it"),
        (
            lambda: graph_of(lif_node(), nir.Threshold(constant(1.0))),
            "expected a node that the network has a layer for",
        ),
        (lambda: graph_of(lif_node(), lif_node()), "right after one Linear, Affine or Conv2d"),
    ],
)
def test_graphs_that_a_network_cannot_be_are_refused(graph, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_nir(graph())


def test_recurrent_graphs_are_refused() -> None:
    graph = graph_of(lif_node())
    graph.nodes["back"] = nir.Linear(np.ones((2, 2)))
    graph.edges += [("lif", "back"), ("back", "lif")]
    with pytest.raises(ValueError, match="without recurrent connections"):
        from_nir(graph)


def test_metadata_that_disagree_with_the_constants_are_refused() -> None:
    graph = to_nir(linear(), (4,))
    with pytest.raises(ValueError, match=r"a_neuron: expected the constants .* dt"):
        from_nir(graph, dt=1e-3)
    graph.nodes["a_neuron"].v_threshold *= 2
    with pytest.raises(ValueError, match="delete the metadata"):
        from_nir(graph)
