"""What a worker must still know after a restart: error-feedback residuals, random generators, by run and name.

A task may be done twice: the aggregator, or this worker, may crash after the state was written and before the round
became part of the model. So a state belongs to a round, the newest few are kept, and a task of round r starts from the
state of the last round before r, however often it is done. The bits are then those of an undisturbed run.

STATE/RUN/NAME/round-000012.safetensors     a state file, see `neurofed.statefile`
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurofed import statefile
from neurofed.errors import ConfigError, DataError
from neurofed.files import remove_temporaries, storing
from neurofed.spec import require_run_id
from neurofed.statefile import Array

KEEP = 4
"""Rounds kept of each state: one more than the aggregator keeps checkpoints, since it may fall back to its oldest."""
KEEP_RUNS = 16
"""Runs whose states are kept, those written last; a run that was paused for longer than that begins without."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILE = re.compile(r"round-(\d{6,})\.safetensors")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """A state as it was after a round.

    Attributes:
        round_number: the round.
        arrays: tensors by name.
        facts: whatever JSON can say, such as the state of a random generator.
    """

    round_number: int
    arrays: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def default_folder(worker: str) -> Path:
    """Where a worker keeps its state unless it is told another place: the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "neurofed" / worker


class StateStore:
    """The states of one worker, in one folder that no other worker uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, run_id: str, name: str, before_round: int) -> State | None:
        """The newest whole state of a round before `before_round`; None where there is none.

        Raises:
            ConfigError: if run or name could be anything but a folder's name.
        """
        folder = self._folder_of(run_id, name)
        remove_temporaries(folder)
        for number, path in _newest_first(folder):
            if number < before_round:
                try:
                    arrays, facts = statefile.read(path)
                    return State(number, arrays, facts)
                except DataError as error:
                    _LOG.warning("state %r of run %s is skipped: %s", name, run_id, error)
        return None

    def save(self, run_id: str, name: str, state: State) -> None:
        """Write a state. Those of later rounds go: they led to a model that was lost, and the rounds are done again.

        Raises:
            ConfigError: if run or name could be anything but a folder's name.
            StorageError: if the disk does not take it; those before are still there.
        """
        folder = self._folder_of(run_id, name)
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder.parent)  # when the run was written last
        statefile.write(folder / f"round-{state.round_number:06d}.safetensors", state.arrays, state.facts)
        files = _newest_first(folder)
        later = [path for number, path in files if number > state.round_number]
        for path in later + [path for _, path in files[len(later) + KEEP :]]:
            path.unlink(missing_ok=True)
        self._forget_old_runs()

    def _forget_old_runs(self) -> None:
        """Remove the states of runs that were not written for long; other folders, if there are any, stay."""
        runs = {file.parent.parent for file in self.folder.glob("*/*/round-*.safetensors")}
        for run in sorted(runs, key=lambda run: (run.stat().st_mtime, run.name), reverse=True)[KEEP_RUNS:]:
            self.forget(run.name)

    def forget(self, run_id: str) -> None:
        """Remove all states of a run."""
        shutil.rmtree(self.folder / require_run_id(run_id), ignore_errors=True)

    def _folder_of(self, run_id: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"state: expected a name of 1 to 100 letters, digits, '.', '_' or '-', got {name!r}")
        return self.folder / require_run_id(run_id) / name


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    found = [(int(m[1]), path) for path in folder.glob("round-*") if (m := _FILE.fullmatch(path.name))]
    return sorted(found, reverse=True)
