"""The rows in Verilog and in Python: values, operations and cycles of random cases are the same."""

import pytest

from benchmarks.chip_model.rtl import ROWS, bp, fp, mismatches, wg

CASES = 3000


def _differing(rtl, model):
    """In what the two differ."""
    assert len(rtl) == len(model)
    parts = {"cycles": slice(0, 1), "operations": slice(1, 2), "sums": slice(2, None)}
    pairs = list(zip(rtl, model, strict=True))
    return {name for name, part in parts.items() if any(a[part] != b[part] for a, b in pairs)}


@pytest.mark.parametrize("empty", [1, 2])
@pytest.mark.parametrize("row", ROWS)
def test_row(row, empty):
    rtl, model = ROWS[row](CASES, empty=empty)
    assert len(rtl) == CASES
    assert rtl == model
    assert mismatches(rtl, model) == 0


@pytest.mark.parametrize(("queue", "empty"), [(0, 1), (1, 2), (3, 1)])
def test_rows_that_share_weights(queue, empty):
    rtl, model = fp(1000, rows=4, queue=queue, empty=empty)
    assert rtl == model


@pytest.mark.parametrize(
    ("row", "options", "bug", "seen_in"),
    [
        (fp, {}, ("sequencer.v", "address = next + take", "address = next"), {"sums", "operations", "cycles"}),
        (fp, {"empty": 2}, ("sequencer.v", "(EMPTY == 1 || tested)", "1'b1"), {"cycles"}),
        (
            fp,
            {"rows": 4, "queue": 1},
            ("fp_group.v", "<= oldest + QUEUE)", "<= oldest + QUEUE + 1)"),
            {"sums", "cycles"},
        ),
        (wg, {}, ("wg_row.v", "rank + ones(", "rank + (0 & "), {"sums"}),
        (bp, {}, ("bp_row.v", "operations + enabled", "operations + valid * LANES"), {"operations"}),
    ],
    ids=["stale word", "empty word too fast", "weights replaced too early", "rank", "gated lanes counted"],
)
def test_a_bug_is_seen(row, options, bug, seen_in):
    """None of sums, operations and cycles would do alone."""
    rtl, model = row(300, bug=bug, **options)
    assert _differing(rtl, model) == seen_in
    assert 0 < mismatches(rtl, model) <= 300


def test_missing_cases_are_mismatches():
    assert mismatches([[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]) == 1
    assert mismatches([], [[1, 2, 3]]) == 1
