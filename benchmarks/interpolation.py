"""Interpolation of decimated images: PSNR beside classic kernels and a spline, what each term earns, time, memory, LCA.

HR(s i) = LR(i); the outer 5 pixels are left out; images are the classic ones of `NEUROFED_DATA`/sr/InterpClassic.

python -m benchmarks.interpolation [--quick] [--json FILE] [--images FOLDER]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage  # type: ignore[import-untyped]

from benchmarks.common import finish, must, parser
from neuro_engine.chip import Chip
from workloads.image_metrics import psnr, ssim
from workloads.interpolation.api import classic, interpolate
from workloads.interpolation.images import Image, as_type
from workloads.interpolation.kernels import box, lanczos3, triangle
from workloads.interpolation.lca import LcaCoder
from workloads.interpolation.options import Options
from workloads.interpolation.prior import CLASSES, Coder, Prior, closed_form, moments
from workloads.settings import override

BORDER = 5
BICUBIC: Mapping[tuple[str, int], float] = {
    ("mornach", 2): 25.87, ("girl", 2): 31.59, ("leaves", 2): 26.88, ("motorbike", 2): 25.85, ("cameraman", 2): 25.37,
    ("fence", 2): 23.22, ("plane", 2): 29.38, ("house", 2): 32.17, ("parrot", 2): 26.23, ("foreman", 2): 35.56,
    ("mornach", 3): 21.81, ("girl", 3): 28.49, ("leaves", 3): 21.87, ("motorbike", 3): 22.08, ("cameraman", 3): 22.35,
    ("fence", 3): 19.30, ("plane", 3): 25.99, ("house", 3): 28.66, ("parrot", 3): 22.82, ("foreman", 3): 32.10,
}  # fmt: skip
"""What an independent implementation of the protocol measured, in dB."""
LEVELS: Mapping[str, float] = {"leaves": 29.3, "house": 32.9, "foreman": 37.7}
TERMS = {
    "regression": "regression",
    "sub-dictionary": "dictionary",
    "nonlocal mean": "nonlocal_mean",
    "weighted encoding": "reweight",
}
"""Terms of the model, and the option that switches each."""
Row = dict[str, Any]


def load(folder: Path) -> dict[str, Image]:
    """Grey images by name, in the order of their numbers."""
    from PIL import Image as Pillow

    files = sorted(folder.glob("*_*.*"), key=lambda p: int(p.stem.split("_")[0]))
    return {p.stem.partition("_")[2]: np.asarray(Pillow.open(p).convert("L")) for p in files}


def decimated(image: Image, factor: int) -> tuple[Image, Image]:
    """The original, cut to whole multiples of the factor, and every which of its pixels."""
    height, width = (side - side % factor for side in image.shape)
    original = image[:height, :width]
    return original, np.ascontiguousarray(original[::factor, ::factor])


def spline(image: Image, factor: int) -> Image:
    """SciPy's cubic spline on the same grid."""
    at = np.indices([factor * side for side in image.shape]) / factor
    return as_type(ndimage.map_coordinates(image / 255.0, at, order=3, mode="nearest"), image)


def opencv(image: Image, factor: int, name: str) -> Image:
    """OpenCV's interpolation on the same grid."""
    cv2 = importlib.import_module("cv2")

    matrix = np.array([[factor, 0.0, 0.0], [0.0, factor, 0.0]])
    size = (factor * image.shape[1], factor * image.shape[0])
    enlarged: Image = cv2.warpAffine(image, matrix, size, flags=getattr(cv2, name), borderMode=cv2.BORDER_REPLICATE)
    return enlarged


PEERS: Mapping[str, Callable[[Image, int], Image]] = {
    "nearest": lambda image, factor: classic(image, factor, box),
    "bilinear": lambda image, factor: classic(image, factor, triangle),
    "bicubic": classic,
    "Lanczos 3": lambda image, factor: classic(image, factor, lanczos3),
    "SciPy spline": spline,
}
OPENCV = {"OpenCV cubic": "INTER_CUBIC", "OpenCV Lanczos 4": "INTER_LANCZOS4"}


def compare(images: Mapping[str, Image], factor: int) -> list[Row]:
    """A row for each image: PSNR of all methods, and what ours takes."""
    rows = []
    with_opencv = importlib.util.find_spec("cv2") is not None
    for name, image in images.items():
        original, known = decimated(image, factor)
        row: Row = {"part": "psnr", "image": name, "factor": factor}
        for peer, method in PEERS.items():
            row[peer] = psnr(method(known, factor), original, BORDER)
        for peer, flag in OPENCV.items():
            row[peer] = psnr(opencv(known, factor, flag), original, BORDER) if with_opencv else None
        began, began_cpu = time.perf_counter(), time.process_time()
        ours = interpolate(known, factor)
        row |= {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - began_cpu}
        row |= {"ours": psnr(ours, original, BORDER), "ours_ssim": ssim(ours, original, BORDER)}
        row["bicubic_ssim"] = ssim(classic(known, factor), original, BORDER)
        row["known_pixels_kept"] = bool((ours[::factor, ::factor] == known).all())
        rows.append(row)
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return rows


def ablate(images: Mapping[str, Image], names: Iterable[str]) -> list[Row]:
    """What each term of the model is worth at x2, in dB."""
    pairs = [decimated(images[name], 2) for name in names]

    def mean_psnr(options: Options) -> float:
        return float(np.mean([psnr(interpolate(known, 2, options), original, BORDER) for original, known in pairs]))

    usual = mean_psnr(Options())
    rows: list[Row] = []
    for label, option in TERMS.items():
        on = getattr(Options(), option)
        other = mean_psnr(override(Options(), {option: not on}))
        worth = usual - other if on else other - usual
        verdict = "earns its place" if worth >= 0.05 else "worth less than 0.05 dB: useless here"
        rows.append({"part": "ablation", "term": label, "default": on, "worth_db": worth, "verdict": verdict})
        print(rows[-1], flush=True)
    return rows


def lca(image: Image, train: Iterable[Image], chip: Chip) -> list[Row]:
    """Codes in global dictionaries, in closed form and by the core group: PSNR at x2, and energy of a patch."""
    total = torch.zeros(CLASSES, 37, 37)
    for other in train:
        pixels = torch.from_numpy(other.astype(np.float32))[None, None]
        total += moments(torch.nn.functional.unfold(pixels, 6, stride=2)[0].T)
    original, known = decimated(image, 2)
    coders: dict[str, Coder] = {
        "closed form": closed_form,
        "analogue LCA": LcaCoder("analogue"),
        "spiking LCA": LcaCoder("spiking"),
    }
    rows: list[Row] = []
    for name, coder in coders.items():
        prior = Prior.of_moments(total, coder, everywhere=True)
        value = psnr(interpolate(known, 2, prior=prior), original, BORDER)
        energy = coder.bill(chip).energy_j / coder.patches if isinstance(coder, LcaCoder) else None
        rows.append({"part": "lca", "coder": name, "psnr": value, "modelled_j_per_patch": energy, "chip": chip.name})
        print(rows[-1], flush=True)
    return rows


def promises(rows: list[Row], *, quick: bool) -> list[dict[str, Any]]:
    """The `must` rows."""
    kept = []
    psnrs = [row for row in rows if row["part"] == "psnr"]
    off = max(abs(row["bicubic"] - BICUBIC[row["image"], row["factor"]]) for row in psnrs)
    kept.append(must("largest difference of bicubic from an independent measurement, dB", off, "<=", 0.02))
    for factor, least in ((2, 0.9), (3, 0.6)):
        gains = [row["ours"] - row["bicubic"] for row in psnrs if row["factor"] == factor]
        if gains and not quick:
            kept.append(must(f"x{factor}: mean gain over bicubic, dB", float(np.mean(gains)), ">=", least))
        if gains:
            kept.append(must(f"x{factor}: least gain over bicubic, dB", min(gains), ">=", -0.05))
    for row in psnrs:
        if row["factor"] == 2 and row["image"] in LEVELS:
            kept.append(must(f"x2: {row['image']}, dB", row["ours"], ">=", LEVELS[row["image"]]))
    kept.append(
        must("images with known pixels kept", float(np.mean([r["known_pixels_kept"] for r in psnrs])), "==", 1.0)
    )
    spent = [row["cpu_s"] for row in psnrs if row["factor"] == 2 and row["image"] == "leaves"]
    kept += [must("256x256 x2, processor time of all threads, s", value, "<=", 6.0) for value in spent]
    coded = [row["psnr"] for row in rows if row["part"] == "lca"]
    kept.append(must("LCA from closed form, dB", max(abs(v - coded[0]) for v in coded), "<=", 0.1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    kept.append(must("largest memory of the process, GiB", peak, "<=", 1.0))
    return kept


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    images = load(options.images)
    quick = {name: images[name] for name in ("leaves", "house")}
    rows = compare(quick if options.quick else images, 2)
    if not options.quick:
        rows += compare(images, 3)
        rows += ablate(images, ["leaves", "house", "foreman", "cameraman", "parrot"])
    train = [image for name, image in images.items() if name not in quick]
    rows += lca(images["house"][64:192, 64:192] if options.quick else images["house"], train, Chip.load("core20_28nm"))
    finish("interpolation", options, [0], rows, promises(rows, quick=options.quick), ["scipy"])


if __name__ == "__main__":
    command = parser(__doc__)
    data = Path(os.environ.get("NEUROFED_DATA", "../shared/data"))
    command.add_argument("--images", type=Path, default=data / "sr" / "InterpClassic", help="folder of the images")
    main(command.parse_args())
