"""What the solver can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from workloads.settings import Range


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `interpolate`; lengths in pixels of the result, grey levels of an image from 0 to 255.

    The booleans switch the terms of the model off, to see what each is worth.
    """

    passes: Annotated[int, Range(0, 20)] = 3
    """Outer iterations; matches and dictionaries are found anew in each. None leaves the bicubic image."""
    radius: Annotated[int, Range(1, 64)] = 10
    """Matches are searched up to this distance, in rows and in columns."""
    matches: Annotated[int, Range(1, 64)] = 12
    """Similar patches that a patch is regressed on, for each phase of the grid."""
    ridge: Annotated[float, Range(1e-6)] = 12.0
    """Ridge on the coefficient of the best match, for each pixel of a patch; worse matches have a heavier one."""
    trust: Annotated[float, Range(0.0, 1.0)] = 0.1
    """Weight of interpolated pixels in the fit, from the second pass on; known pixels have weight 1."""
    prefilter: Annotated[float, Range(0.0, 4.0)] = 0.85
    """Sigma, at a factor of 2 and in proportion at others, of the Gaussian under which the first pass matches and fits;
    0 has none."""
    flat: Annotated[float, Range(0.0)] = 1.0
    """Patches whose variance about their plane is no more than this are left as they are."""
    threshold: Annotated[float, Range(0.0)] = 3.0
    """Soft threshold of the codes times their deviation, in the first pass; it falls to a tenth in the last."""
    group: Annotated[int, Range(2, 64)] = 12
    """Similar patches whose principal axes are a patch's dictionary."""
    regression: bool = True
    """Nonlocal linear regression."""
    dictionary: bool = True
    """Sparse coding in the dictionary of each group."""
    nonlocal_mean: bool = True
    """Regression and codes shrink towards the nonlocal mean; otherwise towards zero and the plain mean of the group."""
    reweight: bool = False
    """Weighted encoding: pixels that fit badly count less. Off, since with this ridge it costs rather than earns."""
    band: Annotated[int, Range(1)] = 8192
    """Patches worked on at once, which bounds the memory; the result does not depend on it but for rounding."""
