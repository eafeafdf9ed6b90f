from math import prod

from benchmarks.chip_model.counts import TRAINED_ON, scale_sim, weights_sha256
from benchmarks.chip_model.figures import AXES, SCALED, dram_rows, scaling_rows
from neuro_engine.chip import Chip


def test_the_number_of_cores_changes_no_weight():
    assert [Chip.load(name).cores.count for name in TRAINED_ON] == [1, 20]
    one, twenty = (weights_sha256(name, steps=2) for name in TRAINED_ON)
    assert one == twenty != weights_sha256("core20_28nm", steps=1)


def test_dense_cycles_are_those_of_scale_sim():
    rows = scale_sim()
    assert len(rows) == 6
    assert all(row["ours_modelled"] == row["scale_sim_measured"] for row in rows)


def test_the_sweep_is_of_a_thousand_chips():
    assert prod(len(axis.values) for axis in AXES) == 1000


def test_without_waiting_for_dram_twenty_cores_reach_the_aim_and_beat_greedy():
    found, greedy = (row for row in scaling_rows("sew_resnet18") if not row["waits_for_dram"])
    assert (found["mapping"], greedy["mapping"]) == ("search", "greedy")
    assert found["speedup"] >= SCALED["sew_resnet18"]
    assert found["speedup"] > greedy["speedup"]


def test_a_row_of_traffic_is_for_one_baseline():
    rows = dram_rows(("vgg11",))
    assert [(row["norm"], row["gpu_kernels"]) for row in rows] == [
        (norm, kernels) for norm in ("batch", "weight") for kernels in ("eager", "fused", "ideal")
    ]
    assert all((row["band"] == "inside") == (0.55 <= row["less"] <= 0.85) for row in rows)
