"""Numbers as people read them: three significant digits and a prefix."""

from __future__ import annotations

import math
from typing import Final

MISSING: Final = "–"
"""What stands where there is no number."""

_PREFIXES: Final = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P", 6: "E"}


def si(value: float | None, unit: str = "") -> str:
    """A quantity with the decimal prefix that fits.

    Args:
        value: the quantity in its base unit; None where there is none.
        unit: the base unit.

    Returns:
        For example `1.23 MB` for `si(1_234_567, "B")`.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value and not 1e-12 <= abs(value) < 1e21:
        return f"{value:.2e} {unit}".rstrip()
    # Rounded first: 999.9 has to become "1.00 k", not "1000".
    mantissa, _, tens = f"{value:.2e}".partition("e")
    exponent = int(tens)
    group = min(max(exponent // 3, min(_PREFIXES)), max(_PREFIXES))
    whole = group == 0 and float(value).is_integer()  # 12 bytes, not 12.0
    decimals = 0 if whole else max(0, 2 - (exponent - 3 * group))
    scaled = float(mantissa) * 10.0 ** (exponent - 3 * group)
    return f"{scaled:.{decimals}f} {_PREFIXES[group]}{unit}".rstrip()


def data(value: float | None) -> str:
    """An amount of data: `si(value, "B")`."""
    return si(value, "B")


def energy(value: float | None) -> str:
    """An energy: `si(value, "J")`."""
    return si(value, "J")


def count(value: float | None) -> str:
    """A number of things, such as cycles: `12.3 M`."""
    return si(value)


def duration(value: float | None) -> str:
    """A time span given in seconds: `85.0 ms`, `12.3 s`, `2 min 05 s`, `1 h 02 min`."""
    if value is None or not math.isfinite(value) or value < 59.95:
        return si(value, "s")
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(value: float | None) -> str:
    """A fraction in percent: `91.2 %`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{100 * value:.1f} %" if abs(value) < 10 else f"{100 * value:.3g} %"


def number(value: float | None) -> str:
    """A plain number, such as a loss: `0.312`."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
