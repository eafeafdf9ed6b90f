"""The claims: every row has a definition, and says what it is."""

import re

import pytest

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import MembranePolicy
from neuro_engine.claim_table import rows
from neuro_engine.claims import CORES, DRAM_BAND, NETWORKS, Case, claims, dram
from neuro_engine.cost.networks import available
from neuro_engine.cost.sparsity import Sparsity
from neuro_engine.profile import check_fits

CHIP = Chip.load("core20_28nm")


@pytest.fixture(scope="module")
def found():
    return claims(CHIP, [Case.of("vgg11"), Case.of("nmnist")])


def test_every_claim_of_the_abstract_has_a_row(found):
    text = " ".join(row.claim for row in rows(found))
    assert all(part in text for part in ("1.05 TFLOPS/W", "55-85 %", "20 cores", "5 workers", "first"))
    assert set(NETWORKS) <= set(available())


def test_a_row_is_inside_only_if_all_of_its_points_are_and_else_says_outside(found):
    banded = [row for row in rows(found) if row.inside is not None]
    assert len(banded) == 12  # six baselines, with and without norms by the batch
    for row in banded:
        low, high = ([float(n) for n in re.findall(r"-?\d+", row.ours)] * 2)[:2]
        within = DRAM_BAND[0] * 100 - 0.5 <= low and high <= DRAM_BAND[1] * 100 + 0.5
        assert ("outside" in row.deviation) is not row.inside
        assert within or not row.inside
    assert {row.inside for row in banded} == {True, False}


def test_every_policy_is_compared_with_every_baseline(found):
    of = {(p.network, p.norm, p.policy, p.comparison.gpu.variant, p.comparison.gpu.folded) for p in found.dram}
    assert len(of) == len(found.dram) == 3 * len(MembranePolicy) * 6  # vgg11 with two norms, nmnist with its own


def test_a_point_is_inside_by_its_own_figure_and_near_by_the_error_of_the_gpus(found):
    for point in found.dram:
        low, high = point.comparison.less_band
        assert low < point.comparison.less < high
        assert point.inside is (0.55 <= point.comparison.less <= 0.85)
        assert point.inside_with_error or not point.inside


def test_the_fitted_constant_is_named_where_it_matters(found):
    efficiency = [row for row in rows(found) if "TFLOPS/W" in row.claim]
    assert all("1 fitted: overhead.control_fraction = 0.13" in row.constants for row in efficiency)
    assert "no evidence" in efficiency[0].deviation
    assert {row.definition.partition(":")[0] for row in efficiency} == {
        "peak_dense",
        "dense_equivalent",
        "executed",
        "system",
    }


def test_what_cannot_be_compared_claims_no_deviation(found):
    rest = [row for row in rows(found) if row.inside is None and "TFLOPS/W" not in row.claim]
    assert all("nothing to deviate" in row.deviation or "cannot be compared" in row.deviation for row in rest)
    assert rows(found)[-1].ours == "not checked"


def test_nothing_is_called_reproduced(found):
    assert "reproduced" not in str(rows(found))


def test_cores_are_counted_with_and_without_waiting_for_dram(found):
    points = [point for point in found.scaling if point.network == "vgg11"]
    assert [(p.waits_for_dram, p.cores) for p in points] == [(waits, n) for waits in (True, False) for n in CORES]
    for point in points:
        assert point.norm == "weight"  # statistics of the batch would stop the pipeline
        assert 128 % point.samples == 0
        assert point.waits_for_dram or point.speedup <= point.cores * (1 + 1e-9)
    waits, endless = (max(p.speedup for p in points if p.waits_for_dram is flag) for flag in (True, False))
    assert waits <= endless


def test_a_round_sends_each_parameter_down_and_up(found):
    for point in found.federation:
        assert point.bytes_fp32 == 8 * point.parameters == 2 * point.bytes_fp16


def test_sparsity_that_was_measured_is_not_taken_for_another_norm():
    case = Case(Case.of("vgg11").shape, 1, Sparsity(spike_rate=0.2, origin="measured: a test"))
    own, other = case.with_norms()
    assert own is case
    assert other.sparsity is None
    assert {p.sparsity for p in dram(CHIP, own)} == {"measured: a test"}


def test_norms_by_the_batch_cost_the_chip_dram():
    batch, weight = (dram(CHIP, case)[0].comparison.chip_bytes for case in Case.of("vgg11").with_norms())
    assert weight < batch


@pytest.mark.parametrize("key", ["memory.weight_buffer_bytes", "memory.weight_gradient_buffer_bytes"])
def test_a_layer_that_fits_no_core_is_named_with_the_key(key):
    shape = Case.of("nmnist").shape
    check_fits(shape, CHIP.override({key: 2312 * 4}))
    with pytest.raises(ValueError, match=rf"{key} = 100: layer 'fc1' fits no core"):
        check_fits(shape, CHIP.override({key: 100}))


def test_claims_need_a_network():
    with pytest.raises(ValueError, match="at least one network"):
        claims(CHIP, [])
