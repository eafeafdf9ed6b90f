"""Bills of known networks on the shipped chips are what they were when someone last looked at them."""

import json
from pathlib import Path

import pytest

from benchmarks.chip_model.golden import REGENERATE, bill, digest
from neuro_engine.chip import Chip, available
from neuro_engine.cost.networks import available as networks

GOLDEN = json.loads(Path(__file__).with_name("chip_model.json").read_text())
HOW = f"if that is meant, look at the difference that this makes and commit it with its reason: {REGENERATE}"


def test_every_network_and_chip_is_there():
    assert sorted(GOLDEN["chips"]) == sorted(available()), HOW
    assert sorted(GOLDEN["bills"]) == sorted(networks()), HOW
    assert all(sorted(bills) == sorted(available()) for bills in GOLDEN["bills"].values()), HOW


@pytest.mark.parametrize("chip", available())
def test_the_chips_are_those_of_the_bills(chip):
    assert digest(Chip.load(chip)) == GOLDEN["chips"].get(chip), f"{chip} has changed; {HOW}"


@pytest.mark.parametrize("chip", available())
@pytest.mark.parametrize("network", networks())
def test_a_bill_is_as_it_was(network, chip):
    now, then = bill(network, Chip.load(chip)), GOLDEN["bills"][network][chip]
    assert now.keys() == then.keys(), HOW
    for key in ("batch", "cycles", "dram_bytes"):
        assert now[key] == then[key], f"{network} on {chip}: {key}; {HOW}"
    for key in ("energy_pj", "efficiencies_tflops_per_w"):
        assert now[key] == pytest.approx(then[key], rel=1e-9), f"{network} on {chip}: {key}; {HOW}"
