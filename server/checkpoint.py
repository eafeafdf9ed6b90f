"""Checkpoints: after each round, everything a resumed run needs, in one file that is whole or not there.

A checkpoint is a state file (see `neurofed.statefile`): the global model as tensors, the round and the strategy's state
as facts, a digest of all. A crash at any moment leaves the one before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurofed import statefile
from neurofed.errors import CheckpointError, DataError
from neurofed.files import remove_temporaries
from neurofed.tensors import Array

KEEP = 3
"""How many of the newest checkpoints stay on disk; the older ones are there should the newest be damaged."""
_MEMORY = "rule/"
"""Before the names of what the rule remembers: no parameter of a network has a slash in its name."""
_NAME = re.compile(r"round-(\d{6,})\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run after a round.

    Attributes:
        round_number: the round, from 1; 0 is the calibrated initial model.
        model: the global model.
        state: the strategy's own state, JSON-serialisable.
        memory: what the aggregation rule remembers, by name.
    """

    round_number: int
    model: Mapping[str, Array]
    state: Mapping[str, Any]
    memory: Mapping[str, Array] = field(default_factory=dict)


def _silent(_file: Path, _reason: str) -> None:
    """Where the word of damaged checkpoints goes when nobody asked for it."""


class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then remove all but the newest.

        Raises:
            StorageError: if the disk does not take it; those before are still there.
        """
        path = self.folder / f"round-{checkpoint.round_number:06d}.safetensors"
        facts = {"round": checkpoint.round_number, "state": checkpoint.state}
        remembered = {_MEMORY + name: array for name, array in checkpoint.memory.items()}
        statefile.write(path, {**checkpoint.model, **remembered}, facts)
        for old in self._paths()[KEEP:]:
            old.unlink(missing_ok=True)
        return path

    def newest(self, skipped: Callable[[Path, str], object] = _silent) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None where none was ever written.

        Args:
            skipped: told of each damaged one that was newer, and why it does not count.

        Raises:
            CheckpointError: if there are checkpoints and none can be read.
        """
        remove_temporaries(self.folder)
        faults = []
        for path in self._paths():
            try:
                return _load(path)
            except (DataError, ValueError, KeyError, TypeError) as error:
                faults.append(f"{path.name}: {error}")
                skipped(path, str(error))
        if faults:
            raise CheckpointError(f"no checkpoint in {self.folder} can be read: {'; '.join(faults)}")
        return None

    def _paths(self) -> list[Path]:
        """Checkpoint files, newest round first."""
        if not self.folder.is_dir():
            return []
        found = {int(m[1]): p for p in self.folder.iterdir() if (m := _NAME.fullmatch(p.name))}
        return [found[number] for number in sorted(found, reverse=True)]


def _load(path: Path) -> Checkpoint:
    arrays, facts = statefile.read(path)
    if path.name != f"round-{facts['round']:06d}.safetensors":
        raise ValueError(f"it holds round {facts['round']}")
    model = {name: array for name, array in arrays.items() if not name.startswith(_MEMORY)}
    memory = {name.removeprefix(_MEMORY): array for name, array in arrays.items() if name not in model}
    return Checkpoint(facts["round"], model, facts["state"], memory)
