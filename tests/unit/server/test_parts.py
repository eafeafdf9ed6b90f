"""Which worker trains on which part."""

from hypothesis import given
from hypothesis import strategies as st

from server.parts import Parts


def _parts(count, **holders):
    parts = Parts(count)
    parts.holders = dict(holders)
    return parts


def test_parts_are_given_by_name():
    assert _parts(3).give(["c", "a", "b"]) == {"a": 0, "b": 1, "c": 2}


def test_a_worker_keeps_its_part_and_newcomers_take_what_is_free():
    assert _parts(3, b=2).give(["a", "b", "c", "d"]) == {"a": 0, "b": 2, "c": 1}


def test_nobody_takes_the_part_of_one_that_is_away_while_another_is_free():
    assert _parts(2, b=0).give(["a"]) == {"a": 1}


def test_one_that_returns_before_anybody_took_its_part_has_it_again():
    parts = _parts(2, a=0, b=1)
    assert parts.give(["b"]) == {"b": 1}
    assert parts.give(["a", "b"]) == {"a": 0, "b": 1}


def test_one_that_returns_later_stands_by_until_a_part_is_left():
    parts = _parts(2, a=0, b=1)
    assert parts.give(["b", "c"]) == {"b": 1, "c": 0}
    assert parts.give(["a", "b", "c"]) == {"b": 1, "c": 0}
    assert parts.give(["a", "c"]) == {"a": 1, "c": 0}


names = st.sampled_from("abcdefgh")


@given(st.integers(1, 5), st.lists(st.sets(names), max_size=8))
def test_no_part_is_given_twice_and_none_lies_idle_while_a_worker_does(count, history):
    parts, before = Parts(count), {}
    for present in history:
        given_now = parts.give(present)
        assert len(set(given_now.values())) == len(given_now) == min(count, len(present))
        assert set(given_now) <= present
        assert set(given_now.values()) <= set(range(count))
        assert all(given_now[name] == part for name, part in before.items() if name in present)
        before = given_now


@given(st.integers(1, 4), st.lists(st.lists(names, unique=True), max_size=6), st.randoms(use_true_random=False))
def test_it_is_a_function_of_who_is_there(count, history, shuffler):
    one, other = Parts(count), Parts(count)
    for present in history:
        shuffled = list(present)
        shuffler.shuffle(shuffled)
        assert one.give(present) == other.give(shuffled)
