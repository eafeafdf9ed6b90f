"""The nets as data, and what they become in each library."""

from dataclasses import replace

import pytest
import torch

from benchmarks.snn import ours, peers
from benchmarks.snn.nets import DIGITS, NETS, Linear, Readout, batch
from benchmarks.snn.ours import VARIANTS, OurTrainer
from benchmarks.snn.peers import ANN, LIBRARIES, PeerTrainer, present

SMALL = [replace(net, batch=2, steps=2, side=net.side // 2) for net in NETS]
IDS = [net.name for net in NETS]


def test_full_connections_get_all_features_of_the_map():
    widths = [[inputs for layer, inputs in net.walk() if isinstance(layer, Linear | Readout)] for net in NETS]
    assert widths == [[128 * 8 * 8, 256], [64 * 2 * 2], [512]]


@pytest.mark.parametrize("net", [*NETS, DIGITS], ids=[*IDS, "digits"])
def test_constant_inputs_are_expanded_and_others_are_events(net):
    inputs, targets = batch(net)
    assert inputs.shape == (net.steps, net.batch, net.channels, net.side, net.side)
    assert (inputs.stride(0) == 0) == net.constant
    assert net.constant or set(inputs.unique().tolist()) == {0.0, 1.0}
    assert 0 <= targets.min() <= targets.max() < net.classes


@pytest.mark.parametrize("net", SMALL, ids=IDS)
def test_our_nets_have_the_weights_of_the_others(net):
    twin = peers.build(net, peers.Kit(torch.nn, torch.nn.ReLU, lambda model, x: x))
    synapses = [m.weight.shape for m in twin.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert [layer.weight.shape for _, layer in ours.build(net, "batch").engine_layers()] == synapses


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("library", [*LIBRARIES, ANN])
@pytest.mark.parametrize("net", SMALL, ids=IDS)
def test_each_library_trains_each_net(net, library):
    if library not in (*present(), ANN):
        pytest.skip(f"{library} is not installed")
    trainer = PeerTrainer(library, net)
    inputs, targets = batch(net)
    assert trainer.forward(inputs).shape == (net.batch, net.classes)
    before = next(trainer.model.parameters()).clone()
    activity = trainer.observe(inputs, targets)
    assert not torch.equal(before, next(trainer.model.parameters()))
    assert len(activity.densities) == len(activity.rates) + 1, "the readout does not fire"
    assert all(0 <= share <= 1 for share in (*activity.rates.values(), *activity.densities.values()))
    assert next(iter(activity.rates.values())) > 0


def test_neurons_of_a_library_start_afresh_in_each_pass():
    for library in present():
        trainer = PeerTrainer(library, SMALL[0])
        trainer.model.eval()
        inputs, _ = batch(SMALL[0])
        with torch.no_grad():
            torch.testing.assert_close(trainer.forward(inputs), trainer.forward(inputs))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_ours_fire_as_calibrated_and_count(variant):
    net = SMALL[0]
    inputs, targets = batch(net)
    activity = OurTrainer(variant, net, inputs).observe(inputs, targets)
    assert len(activity.densities) == len(activity.rates) + 1
    assert list(activity.rates.values()) == pytest.approx([ours.RATE] * len(activity.rates), abs=0.02)
