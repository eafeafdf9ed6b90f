import pytest
import torch

from neuro_engine.chip import Chip
from neuro_engine.trace import Engine, TensorClass
from workloads.interpolation.dictionaries import soft, thresholds
from workloads.interpolation.lca import LcaCoder
from workloads.interpolation.prior import closed_form

CHIP = Chip.load("core20_28nm")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def orthonormal():
    """Rows, patches, thresholds and deviations."""
    rows, _ = torch.linalg.qr(normal(16, 16))
    deviations = torch.linspace(0.0, 20.0, 16)
    patches = (normal(30, 16, seed=1) * deviations) @ rows
    return rows, patches, thresholds(deviations, 3.0), deviations


def minimum(rows, patches, limits):
    """The codes of least energy, by many proximal steps."""
    codes = torch.zeros(len(patches), len(rows))
    step = 0.9 / torch.linalg.matrix_norm(rows, 2) ** 2
    for _ in range(4000):
        codes = soft(codes + step * (patches - codes @ rows) @ rows.T, step * limits)
    return codes


def energy(rows, patches, limits, codes):
    return float((0.5 * (patches - codes @ rows).square().sum(1) + (codes.abs() * limits).sum(1)).mean())


def test_the_closed_form_is_the_minimum(orthonormal):
    rows, patches, limits, deviations = orthonormal
    assert torch.allclose(closed_form(rows, patches, limits, deviations), minimum(rows, patches, limits), atol=1e-3)


def test_the_analogue_form_goes_to_the_closed_form(orthonormal):
    exact = closed_form(*orthonormal)
    errors = [(LcaCoder("analogue", steps, "fp32")(*orthonormal) - exact).abs().max() for steps in (5, 20, 80)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize("steps", [8, 32, 128])
def test_the_spiking_form_is_within_one_spike_of_the_closed_form(orthonormal, steps):
    scale = 4 * (orthonormal[3] + 1)
    inside = torch.minimum(torch.maximum(closed_form(*orthonormal), -scale), scale)
    codes = LcaCoder("spiking", steps, "fp32")(*orthonormal)
    assert ((codes - inside).abs() <= 0.51 * scale / steps + 1e-4).all()


@pytest.mark.parametrize(("form", "tolerance"), [("analogue", 1e-3), ("spiking", 0.02)])
def test_where_rows_compete_both_go_to_the_minimum(form, tolerance):
    rows = torch.nn.functional.normalize(normal(20, 9, seed=2), dim=1)
    patches, limits = 5 * normal(6, 9, seed=3), torch.ones(20)
    least = energy(rows, patches, limits, minimum(rows, patches, limits))
    few, many = (LcaCoder(form, steps, "fp32")(rows, patches, limits, torch.full((20,), 4.0)) for steps in (40, 640))
    assert energy(rows, patches, limits, many) == pytest.approx(least, rel=tolerance)
    assert energy(rows, patches, limits, few) > energy(rows, patches, limits, many)


def test_work_and_energy_are_counted_by_the_engines(orthonormal):
    coder = LcaCoder("spiking", 16)
    codes = coder(*orthonormal)
    count = coder.trace.count("lca", Engine.FP)
    spikes = count.writes[TensorClass.SPIKES]
    assert spikes.elements == 16 * 30 * 32
    assert count.executed_ops == 30 * 17 * 32  # the patch and a constant, presented once, to 32 neurons
    scale = 4 * (orthonormal[3] + 1)
    assert spikes.nonzeros == int((codes.abs() / scale * 16).round().sum())
    once = coder.bill(CHIP)
    coder(*orthonormal)
    assert coder.patches == 60
    assert coder.bill(CHIP).energy_j > once.energy_j > 0
    assert TensorClass.MEMBRANE not in once.dram_bytes  # coding keeps none


def test_a_silent_patch_costs_less_than_a_busy_one(orthonormal):
    rows, patches, limits, deviations = orthonormal
    busy, silent = LcaCoder("spiking"), LcaCoder("spiking")
    busy(rows, patches, limits, deviations)
    silent(rows, torch.zeros_like(patches), limits, deviations)
    assert silent.trace.spike_rate("lca") == 0.0
    assert silent.bill(CHIP).energy_j < busy.bill(CHIP).energy_j
