"""What happens to workers and to the aggregator in the field, done to real containers: see `benchmarks.deploy`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from neurofed.cluster import faults
from neurofed.cluster.engine import in_our_words
from neurofed.cluster.federation import Federation
from neurofed.cluster.layout import NUMBER, Plan

_PATIENCE_S = 300.0
_LONG = ("--preset", "tiny", "--seed", "3", "--rounds", "4", "--set", "workload.local_epochs=8")
_SLOW_KBIT = 2000

Events = list[dict[str, Any]]


def drill(client: Any, federation: Federation, plan: Plan) -> dict[str, float]:
    """Do each fault to a federation of five workers, and count what came of it.

    Args:
        client: the engine's.
        federation: whose workers have joined.
        plan: as it was made.

    Returns:
        By name: updates of a last round, rounds with the same model, or 1 where what was to happen did.
    """
    numbers = {}
    _begin(federation, plan, "killed", *_LONG)
    faults.kill(federation.worker("worker-2"))
    numbers["worker killed: updates of the last round"] = _updates(_end(federation, plan, "killed"))[-1]

    _begin(federation, plan, "stalled", *_LONG, "--min-workers", "4", "--round-timeout-s", "60")
    with faults.paused(federation.worker("worker-4")):
        numbers["worker paused: updates of the last round"] = _updates(_end(federation, plan, "stalled"))[-1]
    _wait_for_all(federation, plan)

    _begin(federation, plan, "whole", *_LONG)
    whole = _models(_end(federation, plan, "whole"))
    _begin(federation, plan, "resumed", *_LONG)
    with in_our_words("killing the aggregator"):
        faults.kill(client.containers.get(f"{plan.name}-aggregator-1"))
    resumed = _models(_end(federation, plan, "resumed"))
    numbers["aggregator killed: rounds with the models of a whole run"] = sum(
        a == b for a, b in zip(whole, resumed, strict=True)
    )
    _wait_for_all(federation, plan)

    with faults.slowed(client, federation.worker("worker-5"), _SLOW_KBIT):
        _submit(federation, plan, "slow", "--preset", "tiny", "--seed", "3", "--rounds", "2")
        numbers["a link of 2 Mbit/s: updates of the last round"] = _updates(_end(federation, plan, "slow"))[-1]
    numbers["out of memory: told"] = float(_starved(client, federation, plan))
    return numbers


def _begin(federation: Federation, plan: Plan, run_id: str, *options: str) -> None:
    """Submit a run that takes its time, and wait until it trains."""
    _submit(federation, plan, run_id, *options)
    _wait(lambda: any(row.seen == "training" for row in federation.status()), "training")


def _submit(federation: Federation, plan: Plan, run_id: str, *options: str) -> None:
    code, output = federation.command(plan, ["submit", "--run-id", run_id, *options])
    if code:
        raise RuntimeError(f"submit ended with {code}: {b''.join(output)[-500:]!r}")


def _end(federation: Federation, plan: Plan, run_id: str) -> Events:
    """All events of a run, once it has ended; asked again where the aggregator was away."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        _, output = federation.command(plan, ["monitor", run_id, "--json"])
        events = [json.loads(line) for line in b"".join(output).splitlines() if line.startswith(b"{")]
        if any("run_finished" in event for event in events):
            return events
        time.sleep(1.0)
    raise TimeoutError(f"waited {_PATIENCE_S:g} s for the end of {run_id}")


def _updates(events: Sequence[dict[str, Any]]) -> list[float]:
    return [float(event["round_aggregated"]["updates"]) for event in events if "round_aggregated" in event]


def _models(events: Sequence[dict[str, Any]]) -> list[str]:
    """Digest of each round's model; of a round that was done twice, the last one's."""
    rounds = [event["round_aggregated"] for event in events if "round_aggregated" in event]
    return list({view["round"]: str(view["model_sha256"]) for view in rounds}.values())


def _starved(client: Any, federation: Federation, plan: Plan) -> bool:
    """A worker with a tenth of the memory it needs: does the status say what happened to it?"""
    made = plan.worker(99)
    made |= {"mem_limit": "48m", "memswap_limit": "48m", "restart_policy": {"Name": "no"}, "network": plan.network}
    made |= {"environment": {"NEUROFED_INSECURE": "1"}, "volumes": {}, "labels": {**made["labels"], NUMBER: "99"}}
    with in_our_words("starting a worker"):
        container = client.containers.run(**made, detach=True)
        try:
            container.wait(timeout=120)
            return any(row.state == "out of memory" for row in federation.status())
        finally:
            container.remove(force=True)


def _wait_for_all(federation: Federation, plan: Plan) -> None:
    def joined() -> int:
        return sum(row.seen not in ("", "lost") for row in federation.status())

    _wait(lambda: joined() == plan.workers, "the workers")


def _wait(holds: Any, what: str) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(0.2)
