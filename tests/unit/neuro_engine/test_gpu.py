"""The GPU reference, by hand where that is possible."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_engine.cost.gpu import BAND, GPUS, GpuTensor, Kernel, Variant, gpu_bill
from neuro_engine.cost.networks import NetworkShape, available, network
from neuro_engine.geometry import Geometry

A100 = GPUS["a100_40gb"]
WITHOUT_CACHE, ALL_CACHE = replace(A100, l2_bytes=1), replace(A100, l2_bytes=10**12)

# In bytes of FP16, for one sample: 128 of input, 192 of current and of what neurons put out, 108 of weights.
CONV = Geometry(2, 3, (4, 4), (4, 4), (3, 3), steps=2)
ONE_LAYER = NetworkShape("n", {"a": CONV}, "none")
UPDATE = 2 * 57 * (2 + 8)  # 54 weights and 3 biases: 16 bits of gradient or weight, 32 of master and of momentum


@pytest.mark.parametrize("name", available())
def test_better_kernels_move_less(name):
    eager, fused, ideal = (gpu_bill(network(name), 16, variant).bytes for variant in Variant)
    assert eager > fused > ideal > 0


@pytest.mark.parametrize("variant", Variant)
def test_step_by_step_moves_no_less(variant):
    shape = network("vgg11")
    assert gpu_bill(shape, 128, variant, folded=False).bytes >= gpu_bill(shape, 128, variant, folded=True).bytes


@given(st.integers(1, 64), st.sampled_from(list(Variant)))
def test_parts_add_up_and_a_larger_batch_moves_more(batch, variant):
    shape = network("nmnist")
    bill = gpu_bill(shape, batch, variant)
    for parts in (bill.by_tensor, bill.by_layer, bill.by_kernel):
        assert sum(parts.values()) == pytest.approx(bill.bytes)
    assert gpu_bill(shape, batch + 1, variant).bytes > bill.bytes
    assert bill.band_bytes == (bill.bytes * (1 - BAND), bill.bytes * (1 + BAND))


def test_time_is_at_least_that_of_the_bytes():
    bill = gpu_bill(network("resnet18"), 32)
    assert bill.seconds >= bill.bytes / GPUS["a100_40gb"].dram_bytes_per_s


@pytest.mark.parametrize("bad", [{"batch": 0}, {"gpu": "a1000"}, {"variant": "slow"}, {"optimizer_moments": -1}])
def test_bad_input_is_refused(bad):
    with pytest.raises(ValueError, match=r"expected|no "):
        gpu_bill(network("vgg11"), **{"batch": 1, **bad})


@pytest.mark.parametrize(
    ("variant", "folded", "kernels"),
    [
        # Synapse: input, weights, current. Neurons: current, membranes, spikes; error, membranes, gradient.
        # Weight gradient: gradient, input, weights.
        (
            "fused",
            True,
            {"synapse forward": 428, "neuron forward": 576, "neuron backward": 576, "weight gradient": 428},
        ),
        # Neurons: 16 + 12 passes, and 15 + 11.
        (
            "eager",
            True,
            {"synapse forward": 428, "neuron forward": 28 * 192, "neuron backward": 26 * 192, "weight gradient": 428},
        ),
        # The current stays in registers, spikes have 8 bits.
        (
            "ideal",
            True,
            {"synapse forward": 236, "neuron forward": 288, "neuron backward": 576, "weight gradient": 428},
        ),
        # Two steps: weights twice; membranes out and in; their gradients out and in; weights' gradients out, in, out.
        (
            "fused",
            False,
            {"synapse forward": 536, "neuron forward": 960, "neuron backward": 960, "weight gradient": 644},
        ),
    ],
)
def test_a_layer_by_hand_where_nothing_is_cached(variant, folded, kernels):
    bill = gpu_bill(ONE_LAYER, 1, variant, folded=folded, gpu=WITHOUT_CACHE)
    assert bill.by_kernel == {**kernels, "update": UPDATE}


def test_a_layer_by_hand_where_all_is_cached():
    # What is left: weights, and what is written, or written for the way back and read again.
    kernels = gpu_bill(ONE_LAYER, 1, "fused", gpu=ALL_CACHE).by_kernel
    assert kernels["synapse forward"] == 108 + 192
    assert kernels["neuron forward"] == 2 * 192
    assert kernels["neuron backward"] == 192 + 192
    assert kernels["weight gradient"] == 128 + 108
    # Eager: two maps that the way back needs and the spikes are written; the two are read again, a gradient is written.
    kernels = gpu_bill(ONE_LAYER, 1, "eager", gpu=ALL_CACHE).by_kernel
    assert (kernels["neuron forward"], kernels["neuron backward"]) == (3 * 192, 3 * 192)


def test_normalisation_by_batch_by_hand():
    second = replace(CONV, in_channels=3, sources=("a",))
    shape = NetworkShape("n", {"a": CONV, "b": second}, "batch")
    fused, ideal = (gpu_bill(shape, 1, variant, gpu=WITHOUT_CACHE) for variant in ("fused", "ideal"))
    assert fused.by_kernel["norm forward"] == 2 * 3 * 192  # current twice; normalised
    assert fused.by_kernel["norm backward"] == 2 * 5 * 192  # gradient and current twice; gradient
    assert "norm forward" not in ideal.by_kernel
    assert ideal.by_kernel["neuron forward"] == 2 * (192 + 96)
    assert ideal.by_kernel["neuron backward"] == 2 * 5 * 192
    assert fused.by_kernel["synapse backward"] == 192 + 2 * 81 + 192
    assert ideal.by_layer_and_tensor["b", GpuTensor.SPIKES] == 96 * 3  # read twice, written once, in 8 bits


def test_a_static_input_is_multiplied_once():
    shape = NetworkShape("n", {"a": replace(CONV, static=True)}, "none")
    kernels = gpu_bill(shape, 1, "fused", gpu=WITHOUT_CACHE).by_kernel
    assert kernels["synapse forward"] == 64 + 108 + 96
    assert kernels["repeat"] == kernels["sum over time"] == 96 + 192
    assert kernels["weight gradient"] == 96 + 64 + 108


def test_what_stands_between_layers_by_hand():
    layers = {
        "a": replace(CONV, in_channels=3),
        "b": replace(CONV, in_channels=3, sources=("a",)),
        "c": Geometry(3, 1, (2, 2), (2, 2), steps=2, sources=("b", "a")),
    }
    kernels = gpu_bill(NetworkShape("n", layers, "none"), 1, "fused", gpu=WITHOUT_CACHE).by_kernel
    assert kernels["add"] == kernels["add gradients"] == 3 * 192  # b and a; the gradients of b's and the sum's use of a
    assert kernels["pool"] == 192 + 48 + 4 * 48  # maps of 4 x 4 to 2 x 2, and the maxima's positions of 8 bytes
    assert kernels["pool backward"] == 48 + 4 * 48 + 192


def test_the_cache_finds_what_fits_and_loses_what_is_twice_as_large():
    size = 192
    for cache, missed in ((192, 0.0), (128, 0.5), (96, 1.0)):
        gpu = replace(A100, l2_bytes=cache, l2_fraction=1.0)
        read = gpu_bill(ONE_LAYER, 1, "fused", gpu=gpu).kernels[1].reads[GpuTensor.CURRENT]
        assert read == pytest.approx(missed * size)


def test_the_slowest_of_arithmetic_traffic_and_launches_counts():
    gpu = replace(
        A100, dram_bytes_per_s=1e3, dram_fraction=0.5, tensor_flops_per_s=1e4, tensor_fraction=0.5, launch_s=1.0
    )
    assert gpu.seconds(Kernel("a", "k", {GpuTensor.SPIKES: 1000.0}, {GpuTensor.SPIKES: 500.0})) == 3.0
    assert gpu.seconds(Kernel("a", "k", {}, {}, operations=20e3)) == 4.0
    assert gpu.seconds(Kernel("a", "k", {}, {}, launches=5)) == 5.0
    # A multiplication and an addition for each synapse, in FP, BP and WG; the first layer has no BP.
    operations = sum(kernel.operations for kernel in gpu_bill(ONE_LAYER, 3).kernels)
    assert operations == 2 * 2 * CONV.synapses * CONV.steps * 3


STUDY_MB = {  # by the study that the model began with (issue 5): examples; eager, fused, in MB an example
    "vgg11": (128, 33.4, 18.2),
    "vgg16": (128, 65.2, 35.3),
    "resnet18": (128, 156, 82.7),
    "sew_resnet18": (16, 560, 283),
    "sew_resnet34": (16, 707, 410),
    "dvs_gesture": (16, 4642, 1579),
    "sr": (16, 83, 64),
}


@pytest.mark.parametrize("name", STUDY_MB)
def test_the_earlier_study_lies_in_the_band(name):
    batch, *studied = STUDY_MB[name]
    for variant, megabytes in zip(("eager", "fused"), studied, strict=True):
        low, high = gpu_bill(network(name), batch, variant).band_bytes
        assert low <= megabytes * 1e6 * batch <= high


def test_constants_say_where_they_come_from():
    for gpu in GPUS.values():
        assert all(source.startswith(("quoted: ", "chosen: ")) for source in gpu.sources.values())
        assert set(gpu.sources) == set(gpu.__slots__) - {"name", "sources"}
