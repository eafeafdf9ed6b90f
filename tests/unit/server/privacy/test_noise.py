"""The noise: whose it is, what it looks like, where its key lies."""

import numpy as np
import pytest
from scipy import stats

from neurofed.errors import CredentialsError
from server.privacy.noise import KEY_FILE, Noise, run_key


def test_it_is_normal():
    numbers = Noise(bytes(32), [b"round 1"]).normal(200_000)
    assert stats.kstest(numbers, "norm").pvalue > 0.01
    assert abs(np.corrcoef(numbers[:100_000], numbers[100_000:])[0, 1]) < 0.02
    assert 4 < np.abs(numbers).max() < 6.5


def test_it_goes_on_and_is_the_same_again():
    noise, again = Noise(bytes(32), [b"a", b"b"]), Noise(bytes(32), [b"ab"])
    first, second = noise.normal(5), noise.normal(5)
    assert first.tobytes() != second.tobytes()
    assert [first.tolist(), second.tolist()] == [again.normal(5).tolist(), again.normal(5).tolist()]


def test_it_depends_on_the_key_and_on_what_it_is_added_to():
    drawn = {Noise(key, [about]).normal(1)[0] for key in (bytes(32), bytes(31) + b"1") for about in (b"a", b"b")}
    assert len(drawn) == 4


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    key = run_key(tmp_path, resumed=False)
    assert len(key) == 32
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert run_key(tmp_path, resumed=False) == run_key(tmp_path, resumed=True) == key
    assert run_key(tmp_path / "other", resumed=False) != key


def test_a_resumed_run_without_its_key_is_refused(tmp_path):
    with pytest.raises(CredentialsError, match="put it back"):
        run_key(tmp_path, resumed=True)


def test_a_key_that_others_can_read_or_that_is_cut_is_refused(tmp_path):
    run_key(tmp_path, resumed=False)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(CredentialsError, match="only its owner"):
        run_key(tmp_path, resumed=True)
    (tmp_path / KEY_FILE).chmod(0o600)
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(CredentialsError, match="32 bytes"):
        run_key(tmp_path, resumed=True)
