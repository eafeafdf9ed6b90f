"""Settings and presets of the interpolation workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from workloads.settings import Range


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set with `--set KEY=VALUE`; the defaults are the preset `small`."""

    rounds: Annotated[int, Range(1)] = 1
    """Federated rounds; the statistics are complete after one, and another changes nothing."""
    images: Annotated[int, Range(1)] = 40
    """Private images of the whole federation."""
    test_images: Annotated[int, Range(1)] = 4
    """Test images."""
    size: Annotated[int, Range(16, 512)] = 96
    """Rows and columns of an image, in pixels; rounded down to whole multiples of the factor."""
    factor: Annotated[int, Range(2, 4)] = 2
    """Every which pixel of a row and of a column is known."""
    passes: Annotated[int, Range(1, 20)] = 3
    """Outer iterations of the solver; the dictionaries have no part in the first."""
    private_scores: bool = True
    """Whether workers interpolate their own images too and report the squared errors, summed."""
    dp_noise: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Deviation of the Gaussian noise on a worker's sums, over how much one image can change them; 0 adds none."""


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {"small": Settings(), "tiny": Settings(images=10, test_images=1, size=48, passes=2)}
)
"""`small` takes a minute of one core; `tiny` is for tests: seconds."""
