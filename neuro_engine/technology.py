"""Energy across CMOS nodes and voltages."""

from __future__ import annotations

from itertools import pairwise

# Switching energy as a polynomial a V^2 + b V + c of the supply, by node in nm: Stillmaker and Baas, "Scaling equations
# for the accurate prediction of CMOS device performance from 180 nm to 7 nm", Integration 58, 2017, with the
# coefficients that Accelergy's scaling.py has. Only ratios mean anything.
_POLYNOMIALS = {
    7: (0.1776, -0.09097, 0.02447),
    10: (0.2068, -0.09311, 0.02375),
    14: (0.2363, -0.09675, 0.02239),
    16: (0.2958, -0.1241, 0.03024),
    20: (0.373, -0.1582, 0.04104),
    32: (0.9559, -0.7823, 0.471),
    45: (1.103, -0.362, 0.2767),
    65: (3.755, -4.398, 1.975),
    90: (4.762, -4.781, 2.092),
    130: (7.171, -6.709, 2.904),
}
MIN_NODE_NM, MAX_NODE_NM = min(_POLYNOMIALS), max(_POLYNOMIALS)
"""The nodes that `scale` knows, in nm."""


def scale(pj: float, from_nm: float, to_nm: float, from_v: float = 0.9, to_v: float = 0.9) -> float:
    """The energy of an operation at another node and supply voltage.

    Args:
        pj: its energy, in pJ.
        from_nm: the node of `pj`, in nm; between the nodes of the source it is interpolated linearly.
        to_nm: the other node, in nm.
        from_v: supply of `pj`, in V.
        to_v: the other supply, in V.

    Returns:
        Energy in pJ.

    Raises:
        ValueError: a node outside `MIN_NODE_NM` to `MAX_NODE_NM`.
    """
    return pj * _relative(to_nm, to_v) / _relative(from_nm, from_v)


def _relative(node_nm: float, volts: float) -> float:
    for (small, of_small), (large, of_large) in pairwise(_POLYNOMIALS.items()):
        if small <= node_nm <= large:
            share = (node_nm - small) / (large - small)
            return (1 - share) * _at(of_small, volts) + share * _at(of_large, volts)
    raise ValueError(f"expected a node from {MIN_NODE_NM} to {MAX_NODE_NM} nm, got {node_nm}")


def _at(polynomial: tuple[float, float, float], volts: float) -> float:
    a, b, c = polynomial
    return a * volts * volts + b * volts + c
