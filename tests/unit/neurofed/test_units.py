"""Human units."""

from __future__ import annotations

import pytest

from neurofed import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (0, "0 B"),
        (12, "12 B"),
        (999, "999 B"),
        (999.9, "1.00 kB"),
        (999_999, "1.00 MB"),
        (1_234_567, "1.23 MB"),
        (12_345_678, "12.3 MB"),
        (-50_000, "-50.0 kB"),
        (2**63 - 1, "9.22 EB"),
        (1e300, "1.00e+300 B"),
    ],
)
def test_data(value: float | None, text: str) -> None:
    assert units.data(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.50 J"),
        (0.0125, "12.5 mJ"),
        (3.4e-6, "3.40 µJ"),
        (9.999e-4, "1.00 mJ"),
        (5e-12, "5.00 pJ"),
        (1e-300, "1.00e-300 J"),
    ],
)
def test_energy(value: float, text: str) -> None:
    assert units.energy(value) == text


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (12_300, "12.3 k"), (44_500_000, "44.5 M"), (2e9, "2.00 G")])
def test_count_has_no_unit(value: float, text: str) -> None:
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.085, "85.0 ms"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (None, "–"),
    ],
)
def test_duration(value: float | None, text: str) -> None:
    assert units.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.912, "91.2 %"), (1, "100.0 %"), (None, "–"), (1e300, "1e+302 %"), (float("nan"), "–")]
)
def test_percent(value: float | None, text: str) -> None:
    assert units.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3121, "0.312"), (31.257, "31.26"), (0, "0.000"), (2.3e-5, "2.3e-05"), (None, "–"), (float("nan"), "–")],
)
def test_number(value: float | None, text: str) -> None:
    assert units.number(value) == text
