"""Two real runs, and what is said of them afterwards."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from neurofed import units

pytestmark = pytest.mark.e2e

TINY = ("--preset", "tiny", "--workers", "2", "--rounds", "2")


class Text(HTMLParser):
    """The text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def test_runs_are_compared_by_what_their_reports_say(federation: Any) -> None:
    for name, seed in (("one", "1"), ("two", "2")):
        done = federation.command("run", *TINY, "--seed", seed, "--run-id", name)
        assert done.returncode == 0, done.stderr
    compared = federation.command("compare", "one", "two", "--json", "--html", "both.html")
    assert compared.returncode == 0, compared.stderr
    data = json.loads(compared.stdout)
    assert data["different"] == {"seed": [1, 2]}
    page = Text((federation.folder / "both.html").read_text()).pieces
    for run in data["runs"]:
        report = federation.report(run["name"])
        final = report["final"]
        assert run["final"] == {name: final[name] for name in run["final"]}
        assert [point["value"] for point in run["curve"]] == [
            report["initial"]["accuracy"],
            *(row["accuracy"] for row in report["rounds"]),
        ]
        assert run["curve"][-1]["energy_j"] == pytest.approx(final["energy_j"])
        assert run["curve"][-1]["bytes"] == final["bytes_up"] + final["bytes_down"]
        own = Text((federation.runs / run["name"] / "report.html").read_text()).pieces
        for shown in (
            units.percent(final["accuracy"]),
            units.energy(final["energy_j"]),
            units.data(final["bytes_up"]),
            units.data(final["dram_bytes"]),
            units.count(final["cycles"]),
        ):
            assert shown in page
            assert shown in own
    table = federation.command("compare", "one", "two").stdout
    assert units.energy(data["runs"][1]["final"]["energy_j"]) in table
    lines = federation.command("export", "one", "--jsonl", "-").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["run", "round", "round", "final"]
