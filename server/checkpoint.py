"""Checkpoints: after each round, everything a resumed run needs, in one file that is whole or not there.

A checkpoint is a safetensors file: the global model as tensors, the strategy's state as JSON in the header, and a
digest of both. It is written to a temporary file, synced and renamed: a crash at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save

from neurofed.errors import CheckpointError, DataError
from neurofed.files import write_atomically
from neurofed.tensors import Array, digest, model_digest

KEEP = 3
"""How many of the newest checkpoints stay on disk; the older ones are there should the newest be damaged."""
_NAME = re.compile(r"round-(\d{6,})\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run after a round.

    Attributes:
        round_number: the round, from 1; 0 is the calibrated initial model.
        model: the global model.
        state: the strategy's own state, JSON-serialisable.
    """

    round_number: int
    model: Mapping[str, Array]
    state: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then remove all but the newest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = json.dumps(checkpoint.state, sort_keys=True)
        header = {
            "round": str(checkpoint.round_number),
            "state": state,
            "sha256": _digest(checkpoint.round_number, state, checkpoint.model),
        }
        path = self.folder / f"round-{checkpoint.round_number:06d}.safetensors"
        model = {name: np.asarray(array, order="C") for name, array in checkpoint.model.items()}
        write_atomically(path, save(model, metadata=header))
        for old in self._paths()[KEEP:]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None where none was ever written.

        Raises:
            CheckpointError: if there are checkpoints and none can be read.
        """
        faults = []
        for path in self._paths():
            try:
                return _load(path)
            except (OSError, ValueError, KeyError, DataError, safetensors.SafetensorError) as error:
                faults.append(f"{path.name}: {error}")
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
    with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
        header = file.metadata() or {}
        model = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    number = int(header["round"])
    if _digest(number, header["state"], model) != header["sha256"]:
        raise ValueError("the contents do not have the digest in the header")
    return Checkpoint(number, model, json.loads(header["state"]))


def _digest(round_number: int, state: str, model: Mapping[str, Array]) -> str:
    """SHA-256 of everything a checkpoint says, in hexadecimal."""
    return digest([f"{round_number}\n{state}\n{model_digest(model)}".encode()]).hex()
