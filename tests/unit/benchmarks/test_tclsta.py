import pytest

from benchmarks.tclsta import Federation, Ledger, promises, summary


def test_what_is_done_is_not_done_again_also_after_a_stop(tmp_path):
    path, calls = tmp_path / "kept.json", []

    def work():
        calls.append(1)
        return {"accuracy": 0.5}

    ledger = Ledger.open(path)
    first = ledger.once({"variant": "a", "seed": 0}, work)
    assert Ledger.open(path).once({"variant": "a", "seed": 0}, work) == first
    Ledger.open(path).once({"variant": "a", "seed": 1}, work)
    assert len(calls) == 2
    assert [row["seed"] for row in Ledger.open(path).rows] == [0, 1]


def test_the_table_has_means_and_spreads_over_seeds():
    rows = [{"variant": "a", "seed": n, "accuracy": value, "cpu_s": 2.0} for n, value in enumerate((0.5, 0.7))]
    (line,) = summary(rows)
    assert line["accuracy"] == pytest.approx(0.6)
    assert line["accuracy_spread"] == pytest.approx(0.02**0.5)
    assert (line["seeds"], line["cpu_s"]) == (2, 4.0)


def test_the_gain_is_over_the_better_stream_and_what_was_not_measured_is_missed():
    row = {"variant": "fixed 0.5 / 0.5", "seed": 0, "accuracy": 0.5, "static": 0.6, "motion": 0.8, "cpu_s": 0.0}
    musts = {m["name"]: m for m in promises([row, {"variant": "fusion: both", "seed": 0, "accuracy": 0.9}])}
    gain = musts["the same minus the best single stream of as many rounds"]
    assert gain["value"] == pytest.approx(0.1)
    assert gain["met"]
    assert (musts["24 classes"]["value"], musts["24 classes"]["met"]) == (None, False)


def test_a_round_in_this_process_averages_what_workers_return():
    federation = Federation("tiny", 0, {"train_clips": "24"}, workers=3)
    before = federation.initial
    after = federation.round(before, 2)
    changed = {name for name, value in after.items() if (value != before[name]).any()}
    assert {"heads.static.temporal.out.weight", "heads.motion.temporal.out.weight"} <= changed
    assert all(".temporal." in name for name in changed), "what all workers left alone keeps its bits in the mean"
