"""Faults at random points: killed, frozen and lying processes, cut links, full disks, damaged files, a jumping clock.

Every run is compared with one that nothing disturbed, round by round and bit by bit. Everything happens on the loopback
interface, between real processes; each worker is behind a proxy that counts bytes. The random points are drawn from a
seed, but where they hit depends on the machine's speed.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must
from benchmarks.fleet import cuts, kills, liar, lies, storage
from benchmarks.fleet.processes import Fleet
from neurofed.errors import NeuroFedError
from neurofed.transfer import WINDOW_BYTES

SEED = 6
KILLED, WORKER_KILLED, CUT = "SIGKILL of the aggregator", "SIGKILL of a worker", "link cut in mid-transfer"
_MIB = 1 << 20
_QUICK_LIES = ("not finite", liar.REPLAYED)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How often what happens.

    Attributes:
        workers: honest workers.
        rounds: of a run that is disturbed.
        aggregator_kills: SIGKILLs of the aggregator.
        worker_kills: SIGKILLs of workers.
        cuts: links cut in mid-transfer.
        model_bytes: what is transferred then: more than may be under way and not acknowledged.
        freezes_s: for how long processes are frozen, one after the other.
        damages: kinds of damage done to checkpoints.
        others: whether disk, clock and a bad link have their turn.
        liars: kinds of bad workers.
    """

    workers: int
    rounds: int
    aggregator_kills: int
    worker_kills: int
    cuts: int
    model_bytes: int
    freezes_s: tuple[float, ...]
    damages: int
    others: bool
    liars: tuple[str, ...]


FULL = Scale(4, 50, 100, 50, 50, 24_000_000, (2.0, 20.0), 5, True, liar.KINDS)
QUICK = Scale(2, 15, 2, 1, 2, 12_000_000, (), 1, False, _QUICK_LIES)


def disturb(fleet: Fleet, scale: Scale) -> dict[str, Row]:
    """All faults but lies; a row for each by its name."""
    rng = random.Random(SEED)  # noqa: S311 (chooses where faults strike, no secret)
    known = kills.undisturbed(fleet, "undisturbed", kills.short_rounds(fleet, scale.rounds))
    faults: dict[str, Callable[[], Row]] = {
        KILLED: lambda: kills.aggregator_kills(fleet, scale.aggregator_kills, rng, known),
        WORKER_KILLED: lambda: kills.worker_kills(fleet, scale.worker_kills, rng, known),
        CUT: lambda: cuts.link_cuts(fleet, scale.cuts, rng, scale.model_bytes),
        "damaged checkpoint": lambda: storage.damaged_checkpoints(fleet, scale.damages, known),
    }
    for seconds in scale.freezes_s:
        faults[f"SIGSTOP for {seconds:g} s"] = partial(kills.freezes, fleet, seconds, known)
    if scale.others:
        faults["disk full"] = lambda: storage.full_disk(fleet, known)
        faults["clock jumps by days, to and fro"] = lambda: storage.clock_jumps(fleet, known)
        faults["link slow, late and cut five times in one upload"] = lambda: cuts.bad_link(
            fleet, rng, scale.model_bytes
        )
    return {name: _suffered(name, fault) for name, fault in faults.items()}


def _suffered(name: str, fault: Callable[[], Row]) -> Row:
    """The row of a fault; what hangs or breaks for good is a result too."""
    began_s = time.monotonic()
    try:
        row = fault()
    except NeuroFedError as error:
        row = {"count": 0, "runs": 1, "error": str(error)}
    row = {"fault": name, **row, "wall_s": round(time.monotonic() - began_s, 1)}
    print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    return row


def promised(scale: Scale, rows: Mapping[str, Row], liars: Sequence[Row]) -> list[Row]:
    """The numbers of the faults that were promised."""
    killed, worker_killed, cut = (rows[name] for name in (KILLED, WORKER_KILLED, CUT))
    others = [row for name, row in rows.items() if name not in (KILLED, WORKER_KILLED, CUT) and "skipped" not in row]
    as_ever = sum(row.get("equal") == row["runs"] for row in others)
    twice = cut.get("sent_twice_most")
    return [
        must(
            "SIGKILLs of the aggregator: run ended with the very weights",
            killed.get("survived"),
            "==",
            scale.aggregator_kills,
        ),
        _of_all("runs with SIGKILLs of workers that finished", worker_killed.get("finished"), worker_killed["runs"]),
        _of_all("runs with links cut in mid-transfer that finished", cut.get("finished"), cut["runs"]),
        must(
            "most bytes of a cut upload sent twice, MiB",
            None if twice is None else twice / _MIB,
            "<=",
            WINDOW_BYTES / _MIB,
        ),
        _of_all(
            "kinds of bad worker: rounds completed, it was told, weights as without", _met(liars), len(scale.liars)
        ),
        _of_all("other faults after which runs ended with the very weights", as_ever, len(others)),
    ]


def _of_all(name: str, value: float | None, count: int) -> Row:
    return must(f"{name}, of {count}", value, "==", count)


def _met(liars: Sequence[Row]) -> int:
    return sum(row["met"] for row in liars)


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder), scale.workers) as fleet:
        rows = disturb(fleet, scale)
        liars = lies.lies(fleet, scale.liars)
    finish("chaos", options, [SEED], [*rows.values(), *liars], promised(scale, rows, liars))


if __name__ == "__main__":
    main()
