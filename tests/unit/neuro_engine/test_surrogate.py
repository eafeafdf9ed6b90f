import math

import pytest
import torch

from neuro_engine.surrogate import Surrogate, atan, fast_sigmoid, rectangle, sigmoid, triangle

FAMILIES = [rectangle, triangle, sigmoid, atan, fast_sigmoid]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [0.5, 2.0, 25.0])
def test_a_surrogate_is_an_even_bump_that_falls_on_both_sides(family, scale):
    x = torch.linspace(0, 4, 401, dtype=torch.float64)
    y = family(scale).derivative(x)
    assert torch.equal(y, family(scale).derivative(-x))
    assert (y >= 0).all()
    assert (y.diff() <= 0).all()
    assert y[0] > 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_area_is_one_but_that_of_the_fast_sigmoid(family, scale):
    # Substituting x = sinh(u) spreads the long tails; what is left beyond |x| = e^18 is below 1e-7.
    u = torch.linspace(-18, 18, 400_001, dtype=torch.float64)
    area = torch.trapezoid(family(scale).derivative(u.sinh()) * u.cosh(), u).item()
    wanted = 2 / scale if family is fast_sigmoid else 1.0
    assert area == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("surrogate", "x", "wanted"),
    [
        (rectangle(2.0), 0.24, 2.0),
        (rectangle(2.0), 0.25, 0.0),
        (triangle(0.5), 0.25, 1.0),
        (triangle(0.5), 0.5, 0.0),
        (sigmoid(4.0), 0.0, 1.0),
        (sigmoid(1.0), math.log(3), 3 / 16),
        (atan(2.0), 0.0, 1.0),
        (atan(2.0), 1 / math.pi, 0.5),
        (fast_sigmoid(), 0.0, 1.0),
        (fast_sigmoid(), 0.04, 0.25),
        (fast_sigmoid(4.0), -0.5, 1 / 9),
    ],
)
def test_values_by_hand(surrogate, x, wanted):
    assert surrogate.derivative(torch.tensor([x], dtype=torch.float64)).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_sixteen_bits_are_the_rounded_value_of_32(family):
    x = torch.linspace(-300, 300, 24001).to(torch.float16)
    before = x.clone()
    y = family().derivative(x)
    assert y.dtype == torch.float16
    assert torch.equal(y, family().derivative(x.float()).to(torch.float16))
    assert torch.equal(x, before)


def test_what_is_no_surrogate_is_refused():
    with pytest.raises(ValueError, match=r"expected a surrogate of .*'fast_sigmoid'.*, got 'relu'"):
        Surrogate("relu", 1.0)
    with pytest.raises(ValueError, match="expected a positive scale for fast_sigmoid, got 0"):
        fast_sigmoid(0.0)
