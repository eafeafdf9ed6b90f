"""Who takes part, by the name that rows carry."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.snn.nets import Net, batch
from benchmarks.snn.ours import UNCOUNTED, VARIANTS, OurTrainer, Variant
from benchmarks.snn.peers import ANN, PeerTrainer, present
from benchmarks.snn.trainers import Trainer

_SEED = 0


def names(variants: Iterable[Variant]) -> list[str]:
    """The libraries that are installed, the orientation, and variants of ours."""
    return [*present(), ANN, *map(str, variants)]


def trainer(name: str, net: Net, parameters: Path | None = None) -> Trainer:
    """The contestant of a name, equal at every call.

    Args:
        name: one of `names()`.
        net: the topology.
        parameters: where `saved` put the parameters of ours; None calibrates afresh.
    """
    torch.manual_seed(_SEED)
    for variant in (*VARIANTS, UNCOUNTED):
        if str(variant) == name:
            sample = batch(net)[0] if parameters is None else torch.load(parameters, mmap=True, weights_only=True)
            return OurTrainer(variant, net, sample)
    return PeerTrainer(name, net)


@contextmanager
def saved(made: Trainer) -> Iterator[Path | None]:
    """A file with the parameters, while the block runs; None for other libraries, which start from the seed."""
    if not isinstance(made, OurTrainer):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parameters"
        torch.save(made.model.state_dict(), path)
        yield path
