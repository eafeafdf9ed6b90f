"""`neurofed profile`, `sweep` and `claims`: what they print, write and refuse."""

import csv
import json
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from neuro_engine.cost.networks import available
from neurofed.cli.hardware import claims, profile, sweep
from neurofed.errors import ConfigError, UnknownChipError, UnknownNameError


def invoke(*arguments, command=profile):
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


def report(*arguments, command=profile):
    result = invoke(*arguments, "--json", command=command)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


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
    for name in ("gantt", "roofline", "energy"):
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
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
        (["vgg11", "--set", "clock"], UnknownChipError, "KEY=VALUE"),
        (["vgg11", "--set", "lanes.bp_rows=many"], UnknownChipError, "whole number"),
        (["vgg11", "--set", "policy.membrane=none"], UnknownChipError, "'store16'"),
        (["vgg11", "--set", "memory.weight_buffer_bytes=100"], ConfigError, "'conv2' fits no core"),
        (["vgg11", "--spike-rate", "1.5"], ConfigError, "[0, 1]"),
        (["vgg11", "--gradient-density", "-0.1"], ConfigError, "[0, 1]"),
        (["vgg11", "--batch", "0"], ConfigError, "at least 1"),
        (["vgg11", "--chip", "core20_28nm,"], ConfigError, "--chip"),
        (["workload:videos"], UnknownNameError, "video-classification"),
        (["workload:video-classification", "--preset", "huge"], UnknownNameError, "tiny"),
        (["workload:video-classification", "--steps", "3"], ConfigError, "--steps"),
        (["none.nir"], ConfigError, "none.nir"),
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


def test_several_chips_give_several_profiles(tmp_path):
    found = report("nmnist", "--chip", "core20_28nm,single_core", "--out", str(tmp_path))
    assert [data["chip"] for data in found] == ["core20_28nm", "single_core"]
    assert (tmp_path / "single_core" / "profile.json").exists()


def test_more_steps_are_more_work():
    few, many = (report("vgg11", "--batch", "1", "--steps", steps) for steps in ("2", "4"))
    assert sum(row["dense_ops"] for row in few["layers"]) < sum(row["dense_ops"] for row in many["layers"])


def test_a_fitted_constant_and_a_given_one_are_named():
    data = report("nmnist", "--set", "lanes.bp_rows=8")
    assert set(data["chip_fitted_or_given"]) == {"overhead.control_fraction", "lanes.bp_rows"}


def test_a_given_rate_replaces_what_a_file_says_of_each_layer(tmp_path):
    file = tmp_path / "sparsity.json"
    file.write_text(json.dumps({"spike_rate": 0.5, "layers": {"fc1": {"spike_rate": 0.9}}}))
    busy, quiet = (
        report("nmnist", "--sparsity", str(file), *more)["energy_j"] for more in ((), ("--spike-rate", "0.01"))
    )
    assert quiet < busy


def test_sparsity_of_a_runs_report_is_measured(tmp_path):
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"final": {"spike_rates": {"fc1": 0.25}, "gradient_densities": {"fc1": 0.5}}}))
    found = report("nmnist", "--sparsity", str(file))["sparsity"]
    assert found["origin"].startswith("measured")
    assert found["layers"]["fc1"] == {"spike_rate": 0.25, "gradient_density": 0.5}


@pytest.mark.parametrize(
    ("final", "text"),
    [
        ({"spike_rates": {"fc1": 2.0}, "gradient_densities": {"fc1": 0.5}}, "[0, 1]"),
        ({"spike_rates": {"fc9": 0.2}, "gradient_densities": {"fc1": 0.5}}, "'fc9'"),
        ({"spike_rates": {}, "gradient_densities": {}}, "final.spike_rates"),
    ],
)
def test_a_report_that_does_not_fit_is_one_line(tmp_path, final, text):
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"final": final}))
    error = invoke("nmnist", "--sparsity", str(file)).exception
    assert isinstance(error, ConfigError)
    assert text in str(error)
    assert "\n" not in str(error)


def test_a_workloads_sparsity_is_measured_on_its_own_network():
    data = report("workload:video-classification", "--preset", "tiny")
    assert data["sparsity"]["origin"].startswith("measured")
    assert {row["layer"] for row in data["layers"]} == set(data["sparsity"]["layers"])


def test_a_nir_file_is_profiled_and_its_unknown_nodes_are_named(tmp_path):
    nir, numpy = pytest.importorskip("nir"), pytest.importorskip("numpy")
    ones = numpy.ones(3)
    neurons = nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones)
    weights = nir.Linear(weight=numpy.ones((3, 5)))
    graph = nir.NIRGraph.from_list(nir.Input(numpy.array([5])), weights, neurons, nir.Output(numpy.array([3])))
    nir.write(tmp_path / "net.nir", graph)
    assert report(str(tmp_path / "net.nir"), "--steps", "2")["network"] == "net"
    delay = nir.Delay(delay=ones)
    graph = nir.NIRGraph.from_list(nir.Input(numpy.array([5])), weights, delay, nir.Output(numpy.array([3])))
    nir.write(tmp_path / "delay.nir", graph)
    error = invoke(str(tmp_path / "delay.nir")).exception
    assert isinstance(error, ConfigError)
    assert "delay.nir" in str(error)
    assert "\n" not in str(error)


def test_a_file_that_is_no_nir_is_one_line(tmp_path):
    pytest.importorskip("nir")
    (tmp_path / "net.nir").write_text("not a graph")
    error = invoke(str(tmp_path / "net.nir")).exception
    assert isinstance(error, ConfigError)
    assert "net.nir" in str(error)
    assert "\n" not in str(error)


def test_a_sweep_has_a_row_for_every_point_of_the_grid(tmp_path):
    vary = ("--vary", "lanes.bp_rows=8:32:x2", "--vary", "policy.membrane=store16,mask1")
    data = report("nmnist", *vary, "--out", str(tmp_path), command=sweep)
    assert [(row["lanes.bp_rows"], row["policy.membrane"]) for row in data["points"]] == [
        (rows, policy) for rows in (8, 16, 32) for policy in ("store16", "mask1")
    ]
    assert all(row in data["points"] for row in data["pareto"])
    with (tmp_path / "sweep.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    assert ElementTree.parse(tmp_path / "pareto.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("vary", "text"),
    [
        ("lanes.bp=8", "bp_rows"),
        ("lanes.bp_rows", "KEY=VALUE"),
        ("lanes.bp_rows=0,8", "positive"),
        ("lanes.bp_rows=8:32", "START:STOP:xFACTOR"),
        ("lanes.bp_rows=32:8:x2", "START <= STOP"),
        ("lanes.bp_rows=8:32:x1", "factor"),
        ("policy.membrane=1:2:x2", "range"),
        ("policy.membrane=none", "'store16'"),
        ("clock.frequency_hz=1:2:x1.000001", "at most"),
    ],
)
def test_a_bad_axis_is_one_line(vary, text):
    error = invoke("nmnist", "--vary", vary, command=sweep).exception
    assert isinstance(error, ConfigError)
    assert text in str(error)
    assert "\n" not in str(error)


def test_claims_print_every_row_with_its_definition(tmp_path):
    data = report("--networks", "nmnist", "--out", str(tmp_path), command=claims)
    assert json.loads((tmp_path / "claims.json").read_text()) == data
    assert set(data["rows"][0]) == {"claim", "ours", "definition", "deviation", "constants", "provenance", "inside"}
    assert all(row["definition"] and row["deviation"] for row in data["rows"])
    assert len(data["definitions"]) == 4
    shown = invoke("--networks", "nmnist", command=claims).output
    assert "outside" in shown
    assert all(name in shown for name in data["definitions"])


def test_claims_of_an_unknown_network_are_one_line():
    error = invoke("--networks", "nmnist,vgg12", command=claims).exception
    assert isinstance(error, UnknownNameError)
    assert "'vgg11'" in str(error)
