"""The decoder under atheris, guided by coverage: with the extra `fuzz`, `python tests/fuzz/fuzz_decoder.py`.

Options are libFuzzer's: `-max_total_time=600`, a folder to keep a corpus in, a file to reproduce a crash from. The same
function runs without atheris as `python -m benchmarks.decoder_fuzz`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["neurofed", "server.intake"]):
    from benchmarks.decoder_fuzz import Mutator, one_input

_STARTS = [Mutator(seed).input() for seed in range(32)]


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Now and then an upload that is nearly right, else what libFuzzer makes of the corpus."""
    if seed % 8 == 0:
        return Mutator(seed).input()[:max_size]
    return atheris.Mutate(data or _STARTS[seed % len(_STARTS)], max_size)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=_mutate)
    atheris.Fuzz()
