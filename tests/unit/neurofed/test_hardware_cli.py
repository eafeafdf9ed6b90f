"""`neurofed profile`: what it prints, writes and refuses."""

import json

import pytest
from click.testing import CliRunner

from neuro_engine.cost.networks import available
from neurofed.cli.hardware import profile
from neurofed.errors import ConfigError, UnknownChipError, UnknownNameError


def invoke(*arguments):
    return CliRunner().invoke(profile, arguments, catch_exceptions=True)


def test_the_parts_of_a_profile_add_up():
    result = invoke("vgg11", "--batch", "4", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    assert sum(row["energy_j"] for row in data["layers"]) == pytest.approx(data["energy_j"])
    assert sum(data["energy_by_component_j"].values()) == pytest.approx(data["energy_j"])
    assert sum(row["dram_bytes"] for row in data["layers"]) == data["dram_bytes"] == sum(data["dram_by_class"].values())
    assert data["efficiencies_tflops_per_w"].keys() == data["definitions"].keys()
    assert sum(stage["cores"] * stage["replicas"] for stage in data["schedule"]["stages"]) <= 20
    assert {(row["variant"], row["time_folded"]) for row in data["gpu"]} == {
        (variant, folded) for variant in ("eager", "fused", "ideal") for folded in (True, False)
    }
    assert data["provenance"] == "modelled"


def test_a_profile_writes_its_pictures(tmp_path):
    result = invoke("nmnist", "--batch", "2", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "TFLOPS/W" in result.output
    assert json.loads((tmp_path / "profile.json").read_text())["network"] == "nmnist"
    assert (tmp_path / "gantt.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "schedule.trace.json").read_text())["traceEvents"]


@pytest.mark.parametrize("network", available())
def test_every_network_of_the_catalogue_has_a_profile(network):
    data = json.loads(invoke(network, "--batch", "1", "--json").output)
    assert data["energy_j"] > 0
    assert data["cycles"] > 0


def test_batch_normalisation_costs_more_memory_traffic():
    weight, batch = (
        json.loads(invoke("vgg11", "--norm", norm, "--json").output)["dram_bytes"] for norm in ("weight", "batch")
    )
    assert weight < batch


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["vgg12"], UnknownNameError, "'vgg11'"),
        (["vgg11", "--chip", "core20"], UnknownChipError, "core20_28nm"),
        (["vgg11", "--set", "lanes.bp=3"], UnknownChipError, "bp_rows"),
        (["vgg11", "--set", "lanes.bp_rows=-3"], UnknownChipError, "lanes.bp_rows"),
        (["vgg11", "--set", "clock"], ConfigError, "KEY=VALUE"),
        (["vgg11", "--norm", "layer"], UnknownNameError, "'weight'"),
        (["vgg11", "--sparsity", "none.toml"], ConfigError, "none.toml"),
    ],
)
def test_bad_input_is_one_line(arguments, error, text):
    result = invoke(*arguments)
    assert isinstance(result.exception, error)
    assert text in str(result.exception)
    assert "\n" not in str(result.exception)


def test_sparsity_outside_its_bounds_is_refused(tmp_path):
    file = tmp_path / "sparsity.toml"
    file.write_text("spike_rate = 1.5\n")
    result = invoke("vgg11", "--sparsity", str(file))
    assert isinstance(result.exception, ConfigError)
    assert "spike_rate" in str(result.exception)
    assert "[0, 1]" in str(result.exception)
