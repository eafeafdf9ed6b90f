"""Energy across nodes and voltages, against sums done by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_engine.technology import MAX_NODE_NM, MIN_NODE_NM, scale

nodes = st.floats(MIN_NODE_NM, MAX_NODE_NM)
volts = st.floats(0.5, 1.2)


def test_nodes_in_between_are_linear():
    # a V^2 + b V + c at 0.9 V: 45 nm 1.103 x 0.81 - 0.362 x 0.9 + 0.2767 = 0.84433, 32 nm 0.54121, 20 nm 0.20079
    # => 28 nm = 2/3 x 0.54121 + 1/3 x 0.20079 = 0.42774, 40 nm = 8/13 x 0.84433 + 5/13 x 0.54121 = 0.72774.
    assert scale(1, 45, 32) == pytest.approx(0.54121 / 0.84433, rel=1e-4)
    assert scale(2, 45, 28) == pytest.approx(2 * 0.42774 / 0.84433, rel=1e-4)
    assert scale(1, 40, 28) == pytest.approx(0.42774 / 0.72774, rel=1e-4)


def test_voltage_scales_too():
    # 28 nm at 1.0 V: 2/3 x (0.9559 - 0.7823 + 0.471) + 1/3 x (0.373 - 0.1582 + 0.04104) = 0.51501.
    assert scale(1, 45, 28, 0.9, 1.0) == pytest.approx(0.51501 / 0.84433, rel=1e-4)


@given(nodes, nodes, volts, volts)
def test_there_and_back_changes_nothing(a, b, from_v, to_v):
    assert scale(scale(1, a, b, from_v, to_v), b, a, to_v, from_v) == pytest.approx(1)
    assert scale(1, a, b, from_v, to_v) > 0


@pytest.mark.parametrize("node", [MIN_NODE_NM - 1, MAX_NODE_NM + 1])
def test_a_node_out_of_reach(node):
    with pytest.raises(ValueError, match=f"expected a node from 7 to 130 nm, got {node}"):
        scale(1, 45, node)
