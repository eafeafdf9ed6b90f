"""Links cut in the middle of a transfer, and links that are merely bad."""

from __future__ import annotations

import random
import statistics
from functools import partial
from typing import Any

from benchmarks.fleet.kills import undisturbed
from benchmarks.fleet.link import Direction, Link
from benchmarks.fleet.processes import Fleet, stub_run

_BYTES_PER_S = 60e6
"""Slow enough that a transfer has a middle."""


def link_cuts(fleet: Fleet, cuts: int, rng: random.Random, model_bytes: int) -> dict[str, Any]:
    """Cut links in mid-transfer, one worker's in each round.

    Returns:
        A row; `sent_twice` are the bytes of a cut upload that passed the link a second time, whatever they were.
    """
    run = stub_run(len(fleet.workers), cuts, model_bytes=model_bytes)
    for link in fleet.links:
        link.bytes_per_s = _BYTES_PER_S
    before = [link.bytes_up for link in fleet.links]
    known = undisturbed(fleet, "uncut", run)
    plain = statistics.mean((link.bytes_up - b) / cuts for link, b in zip(fleet.links, before, strict=True))
    struck = sum(link.cuts for link in fleet.links)
    fleet.submit("cut", run)
    again: list[int] = []
    passed: list[int] = []
    for number in range(1, cuts + 1):
        fleet.wait_for("cut", "round_started", number)
        link = rng.choice(fleet.links)
        direction: Direction = "up" if number % 3 else "down"
        offset = int(rng.uniform(0.05, 0.7) * model_bytes)
        began = link.bytes_up
        link.cut_after(direction, offset)
        fleet.wait_for("cut", "round_aggregated", number)
        if direction == "up":
            again.append(link.bytes_up - began - int(plain))
            passed.append(offset)
    digests = fleet.finish("cut")
    for link in fleet.links:
        link.bytes_per_s = None
    return {
        "count": sum(link.cuts for link in fleet.links) - struck,
        "runs": 1,
        "finished": int(bool(digests)),
        "equal": int(digests == known.digests),
        "model_bytes": model_bytes,
        "uploads_cut": len(again),
        "sent_before_the_cut_median": int(statistics.median(passed)) if passed else None,
        "sent_twice_median": int(statistics.median(again)) if again else None,
        "sent_twice_most": max(again, default=None),
        "report_bytes_up_most": max(int(entry.body["bytes_up"]) for entry in fleet.events("cut", "result_received")),
    }


def bad_link(fleet: Fleet, rng: random.Random, model_bytes: int) -> dict[str, Any]:
    """A slow link with a long delay, that breaks five times in one transfer."""
    run = stub_run(len(fleet.workers), 2, model_bytes=model_bytes)
    known = undisturbed(fleet, "good-link", run)
    link, struck = fleet.links[0], fleet.links[0].cuts
    link.delay_s, link.bytes_per_s = 0.03, _BYTES_PER_S / 2
    fleet.submit("bad-link", run)
    fleet.wait_for("bad-link", "round_started")
    for number in range(1, 6):
        link.cut_after("up", int(rng.uniform(0.1, 0.15) * model_bytes))
        fleet.wait_until(partial(_has_struck, link, struck + number), "a cut")
    digests = fleet.finish("bad-link")
    link.delay_s, link.bytes_per_s = 0.0, None
    return {
        "count": 5,
        "runs": 1,
        "equal": int(digests == known.digests),
    }


def _has_struck(link: Link, cuts: int) -> bool:
    return link.cuts >= cuts
