"""A little of `benchmarks.chaos`: kills and cuts that a run outlives with its very weights, a liar it does without."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from benchmarks.fleet import cuts, kills, lies
from benchmarks.fleet.liar import REPLAYED
from benchmarks.fleet.processes import Fleet
from neurofed.transfer import WINDOW_BYTES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), 2) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def known(fleet: Fleet) -> kills.Undisturbed:
    return kills.undisturbed(fleet, "undisturbed", kills.short_rounds(fleet, 12))


def test_a_killed_aggregator_goes_on(fleet: Fleet, known: kills.Undisturbed) -> None:
    row = kills.aggregator_kills(fleet, 2, random.Random(0), known)
    assert (row["count"], row["survived"]) == (2, 2)


def test_a_killed_worker_comes_back(fleet: Fleet, known: kills.Undisturbed) -> None:
    row = kills.worker_kills(fleet, 1, random.Random(0), known)
    assert (row["finished"], row["equal"]) == (1, 1)


def test_a_cut_transfer_goes_on_where_it_was(fleet: Fleet) -> None:
    row = cuts.link_cuts(fleet, 3, random.Random(0), model_bytes=12_000_000)
    assert (row["count"], row["uploads_cut"], row["equal"]) == (3, 2, 1)
    assert row["sent_twice_most"] <= WINDOW_BYTES


def test_a_liar_is_told_of_and_done_without(fleet: Fleet) -> None:
    rows = lies.lies(fleet, ("not finite", REPLAYED))
    assert all(row["met"] for row in rows), rows
