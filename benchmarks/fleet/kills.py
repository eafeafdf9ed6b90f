"""Processes killed and frozen at random points: whatever is hit, the run ends with the weights it would have had."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks.fleet.processes import Fleet, stub_run
from neurofed.errors import RunFailedError
from neurofed.v1.control_pb2 import RunSpec

_KILLS_PER_RUN = 10
_EARLY = 0.2
"""How many of the kills hit an aggregator that is starting, or that waits for its workers."""
_START_S, _ROUND_S = 2.5, 0.2
"""About how long an aggregator needs to start, and a round."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What a run is compared with: what was asked for, and the digests of the models that came of it."""

    run: RunSpec
    digests: list[str]


def undisturbed(fleet: Fleet, run_id: str, run: RunSpec) -> Undisturbed:
    """Train a run that nothing disturbs.

    Raises:
        RunFailedError: if it fails even so.
    """
    fleet.submit(run_id, run)
    digests = fleet.finish(run_id)
    if not digests:
        raise RunFailedError(f"expected an undisturbed run to finish, {run_id} did not")
    return Undisturbed(run, digests)


def short_rounds(fleet: Fleet, rounds: int) -> RunSpec:
    """Rounds that are short and yet have training in them that can be hit."""
    return stub_run(len(fleet.workers), rounds, steps=3, step_s=0.01)


def aggregator_kills(fleet: Fleet, kills: int, rng: random.Random, known: Undisturbed) -> dict[str, Any]:
    """SIGKILL the aggregator at random points and start it again, several times in a run.

    Returns:
        A row; `survived` counts the kills in runs that ended with the weights of the undisturbed one in every round.
    """
    survived = done = runs = 0
    hit: Counter[str] = Counter()
    while done < kills:
        runs += 1
        run_id, strikes = f"aggregator-killed-{runs}", 0
        fleet.submit(run_id, known.run)
        while strikes < min(_KILLS_PER_RUN, kills - done) and not fleet.is_finished(run_id):
            hit[_strike(fleet, run_id, rng)] += 1
            strikes += 1
        done += strikes
        survived += strikes * (fleet.finish(run_id) == known.digests)
    return {
        "count": done,
        "survived": survived,
        "runs": runs,
        "last_event_before": dict(hit.most_common()),
    }


def _strike(fleet: Fleet, run_id: str, rng: random.Random) -> str:
    """One kill and the restart; returns the kind of the last event before."""
    if rng.random() < _EARLY:
        time.sleep(rng.uniform(0.0, _START_S))
    else:
        fleet.wait_for(run_id, "round_started", fleet.count(run_id, "round_started") + 1)
        time.sleep(rng.uniform(0.0, 2 * _ROUND_S))
    fleet.aggregator.kill()
    kind = fleet.events(run_id)[-1].kind
    fleet.start_aggregator(wait=False)
    return kind


def worker_kills(fleet: Fleet, kills: int, rng: random.Random, known: Undisturbed) -> dict[str, Any]:
    """SIGKILL workers at random points and start them again, several times in a run."""
    done = runs = finished = same = 0
    while done < kills:
        runs += 1
        run_id, strikes = f"worker-killed-{runs}", 0
        fleet.submit(run_id, known.run)
        while strikes < min(2 * _KILLS_PER_RUN, kills - done) and not fleet.is_finished(run_id):
            fleet.wait_for(run_id, "round_started", fleet.count(run_id, "round_started") + 1)
            time.sleep(rng.uniform(0.0, _ROUND_S))
            fleet.restart_worker(rng.randrange(len(fleet.workers)))
            strikes += 1
        done += strikes
        digests = fleet.finish(run_id)
        finished += bool(digests)
        same += digests == known.digests
    return {"count": done, "runs": runs, "finished": finished, "equal": same}


def freezes(fleet: Fleet, seconds: float, known: Undisturbed) -> dict[str, Any]:
    """SIGSTOP the aggregator, then a worker, in the middle of a run, and let them go on after a while."""
    run_id = f"frozen-{seconds:g}-s"
    fleet.submit(run_id, known.run)
    for child in (fleet.aggregator, fleet.workers[0]):
        fleet.wait_for(run_id, "round_started", fleet.count(run_id, "round_started") + 2)
        child.freeze(seconds)
    return {
        "count": 2,
        "equal": int(fleet.finish(run_id) == known.digests),
        "runs": 1,
    }
