"""Layers to cores, by hand."""

import pytest

from neuro_engine.mapping import map_layers


def layers(loads):
    return {f"l{i}": load for i, load in enumerate(loads)}


def shape(mapping):
    return [(stage.layers, stage.cores) for stage in mapping.stages]


def test_spare_cores_go_to_the_heaviest_layer():
    # 6 and 2 on 4 cores: 6 -> 3 -> 2 a core.
    mapping = map_layers({"a": 6, "b": 2}, 4)
    assert shape(mapping) == [(("a",), 3), (("b",), 1)]
    assert mapping.bottleneck == 2
    assert mapping.balance == 1


def test_with_as_many_layers_as_cores_each_has_its_own():
    assert shape(map_layers({"a": 5, "b": 1}, 2)) == [(("a",), 1), (("b",), 1)]


def test_neighbours_share_a_core_when_cores_are_short():
    # Of the four ways to cut 1 2 3 4 5 in two, 1 2 3 | 4 5 has the least maximum, 9.
    mapping = map_layers(layers([1, 2, 3, 4, 5]), 2)
    assert shape(mapping) == [(("l0", "l1", "l2"), 1), (("l3", "l4"), 1)]
    assert mapping.bottleneck == 9
    assert mapping.balance == pytest.approx(15 / 18)


def test_a_dominating_layer_is_split_even_when_cores_are_short():
    # 12 on three cores, the four small ones on the fourth.
    mapping = map_layers(layers([12, 1, 1, 1, 1]), 4)
    assert shape(mapping) == [(("l0",), 3), (("l1", "l2", "l3", "l4"), 1)]
    assert mapping.bottleneck == 4


def test_a_share_that_rounds_up_takes_no_core_more():
    # load / (load / n) may round to just above n.
    for cores in range(2, 60):
        mapping = map_layers(layers([1.0, *[0.0] * cores]), cores)
        assert mapping.cores <= cores
        assert mapping.bottleneck == pytest.approx(1 / (cores - 1))


def test_vgg_11_fills_twenty_cores():
    # VGG-11 at 32 x 32 for 4 steps, in millions of MACs: conv1 4 x 32^2 x 64 x 27 = 7.08, conv2 4 x 16^2 x 128 x 576
    # = 75.5, and so on. The analog conv1 is dense; elsewhere BP is the slowest engine, at 0.4 of its gradients.
    macs = [7.08, 75.5, 75.5, 151, 75.5, 151, 37.7, 37.7, 0.02]
    loads = layers([macs[0], *(0.4 * mac for mac in macs[1:])])
    assert [stage.cores for stage in map_layers(loads, 20).stages] == [1, 3, 3, 4, 2, 4, 1, 1, 1]


def test_loads_of_very_different_size():
    assert shape(map_layers(layers([15.0, 8e-308]), 1)) == [(("l0", "l1"), 1)]


def test_one_core_takes_all():
    assert shape(map_layers(layers([3, 1, 2]), 1)) == [(("l0", "l1", "l2"), 1)]


def test_no_layers_no_stages():
    mapping = map_layers({}, 4)
    assert mapping.stages == ()
    assert (mapping.bottleneck, mapping.cores, mapping.balance) == (0, 0, 1)


def test_layers_without_load():
    assert shape(map_layers(layers([0, 0]), 4)) == [(("l0",), 1), (("l1",), 1)]
    assert shape(map_layers(layers([0, 0, 0]), 2)) == [(("l0", "l1", "l2"), 1)]


@pytest.mark.parametrize("load", [-1, float("nan"), float("inf")])
def test_a_load_must_be_a_number_of_at_least_zero(load):
    with pytest.raises(ValueError, match="layer 'a'"):
        map_layers({"a": load}, 2)


def test_there_must_be_a_core():
    with pytest.raises(ValueError, match="at least one core, got 0"):
        map_layers({"a": 1}, 0)
