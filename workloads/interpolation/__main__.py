"""python -m workloads.interpolation IMAGE --scale 2 -o OUT: enlarge a decimated image; its pixels are kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from neurofed.errors import ConfigError, DataError, NeuroFedError
from neurofed.files import storing
from workloads.interpolation.api import interpolate
from workloads.interpolation.images import Image
from workloads.interpolation.options import Options
from workloads.interpolation.solver import FACTORS

_MODES = ("L", "RGB", "I;16")


def read(path: Path) -> Image:
    """A grey or colour image of 8 bits, or a grey one of 16.

    Raises:
        ConfigError: if the library that reads images is absent, or the image is of another kind.
        DataError: if the file is no image.
    """
    try:
        from PIL import Image as Pillow
    except ImportError:
        raise ConfigError("expected the package pillow, which reads images: pip install pillow") from None
    try:
        with Pillow.open(path) as image:
            if image.mode not in _MODES:
                raise ConfigError(
                    f"{path}: expected an image of mode {', '.join(_MODES)}, got {image.mode}: convert it"
                )
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"{path}: expected an image, got: {error}") from None


def write(path: Path, image: Image) -> None:
    """Write an image in the format that its name ends in.

    Raises:
        ConfigError: if no format goes by that ending.
        StorageError: if the disk does not take it.
    """
    from PIL import Image as Pillow

    try:
        with storing(path):
            Pillow.fromarray(image).save(path)
    except ValueError:
        raise ConfigError(f"expected a name that ends in .png, .tif or the like, got {path}") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m workloads.interpolation", description=__doc__)
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--scale", type=int, choices=FACTORS, default=2, help="factor, by default 2")
    parser.add_argument("--passes", type=int, default=Options().passes, help="outer iterations")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
    options = parser.parse_args(arguments)

    def progress(done: int, total: int) -> None:
        sys.stderr.write(f"\rpass {done} of {total}" + "\n" * (done == total))

    try:
        write(
            options.out,
            interpolate(read(options.image), options.scale, Options(passes=options.passes), progress=progress),
        )
    except NeuroFedError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
