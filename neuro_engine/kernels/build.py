"""Building and finding the kernels' shared library.

The kernels are C that any GCC or Clang compiles, without Python's headers: one library serves every Python. A wheel
carries libraries built beforehand; from a checkout they are compiled at first use, once per version of the sources, and
kept in the cache. Without either, the plain torch references run.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).with_name("csrc")
BUILT = Path(__file__).with_name("lib")
"""Where a wheel carries its libraries."""

LEVELS: dict[str, tuple[str, ...]] = {
    "x86-64-v4": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"),
    "x86-64-v3": ("avx2", "fma", "f16c", "bmi1", "bmi2"),
}
"""Levels of x86-64 that there are kernels for, best first, and the flags by which a processor shows them."""
ARM = "aarch64"
_FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S = 120


def level() -> str | None:
    """The best level of this processor that there are kernels for; None where there is none."""
    machine = platform.machine()
    if machine in ("aarch64", "arm64"):
        return ARM
    if machine not in ("x86_64", "AMD64"):
        return None
    try:
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    except OSError:
        return None
    return next((name for name, needed in LEVELS.items() if flags.issuperset(needed)), None)


def options(level: str) -> tuple[str, ...]:
    """The compiler's options for a level."""
    if level == ARM:
        return (*_FLAGS, "-march=armv8-a")
    wide = ("-mprefer-vector-width=512",) if level == "x86-64-v4" else ()
    return (*_FLAGS, f"-march={level}", *wide)


def library_name(level: str) -> str:
    """Name of the library of a level, which changes with the sources and the options."""
    digest = hashlib.sha256(" ".join(options(level)).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    return f"kernels-{level}-{digest.hexdigest()[:12]}.so"


def cache_folder() -> Path:
    """Where what was found out about this machine is kept: $NEUROFED_CACHE, or neurofed in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("NEUROFED_CACHE") or Path(base) / "neurofed")


def compiler() -> str | None:
    """The C compiler: $CC, or the first of cc, gcc and clang; None where there is none."""
    wanted = os.environ.get("CC")
    return next(
        (path for name in ([wanted] if wanted else ["cc", "gcc", "clang"]) if (path := shutil.which(name))), None
    )


def compile_library(folder: Path, level: str) -> Path:
    """Compile the kernels into `folder`.

    Args:
        folder: where the library goes; made if it is not there.
        level: the level to compile for.

    Returns:
        The library.

    Raises:
        OSError: if there is no compiler, or `folder` cannot be written.
        subprocess.SubprocessError: if the compiler fails.
    """
    found = compiler()
    if found is None:
        raise FileNotFoundError("expected a C compiler (cc, gcc, clang or $CC), found none")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / library_name(level)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / target.name
        command = [found, *options(level), "-o", str(built), *map(str, sorted(SOURCES.glob("*.c")))]
        try:
            _execute([*command, "-fopenmp"])
        except subprocess.CalledProcessError:  # a Clang without its OpenMP: kernels then use one thread
            _execute(command)
        built.replace(target)  # at once, so that another process never loads half a library
    return target


def _execute(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S)


@functools.cache
def find() -> tuple[Path | None, str]:
    """The library for this processor, compiled now if need be; in words, where it is from or why there is none."""
    if os.environ.get("NEUROFED_KERNELS") == "reference":
        return None, "switched off by NEUROFED_KERNELS=reference"
    best = level()
    if best is None:
        return None, f"no kernels for this processor ({platform.machine()})"
    for folder in (BUILT, cache_folder()):
        if (path := folder / library_name(best)).is_file():
            return path, f"{best}, {'built with the package' if folder is BUILT else 'compiled on this machine'}"
    try:
        return compile_library(cache_folder(), best), f"{best}, compiled on this machine"
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        return None, f"could not compile: {detail.strip().splitlines()[0] if detail.strip() else error!r}"
