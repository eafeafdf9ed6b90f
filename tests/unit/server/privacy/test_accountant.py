"""Epsilon, against the closed form of the Gaussian mechanism, and what cannot be reached."""

import math

import pytest
from scipy.stats import norm

from neurofed.errors import ConfigError
from server.privacy import accountant
from server.privacy.central import Adaptive, Fixed, calibrated

pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")


def delta_of(epsilon, noise, rounds):
    """Balle and Wang 2018, theorem 8, of a Gaussian mechanism with noise z / sqrt(rounds)."""
    sigma = noise / math.sqrt(rounds)
    a, b = 1 / (2 * sigma), epsilon * sigma
    return norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b)


@pytest.mark.parametrize(("noise", "rounds", "delta"), [(1.0, 10, 1e-5), (5.0, 100, 1e-6), (0.7, 1, 1e-3)])
def test_epsilon_is_that_of_the_closed_form(noise, rounds, delta):
    epsilon = accountant.epsilon(noise, rounds, delta)
    assert delta_of(epsilon, noise, rounds) == pytest.approx(delta, rel=1e-6)


def test_epsilon_is_not_more_than_that_of_renyi_accounting():
    import dp_accounting

    other = dp_accounting.rdp.RdpAccountant()
    other.compose(dp_accounting.GaussianDpEvent(2.0), 30)
    assert 0.8 * other.get_epsilon(1e-5) < accountant.epsilon(2.0, 30, 1e-5) <= other.get_epsilon(1e-5)


def test_no_rounds_cost_nothing_and_no_noise_costs_everything():
    assert accountant.epsilon(1.0, 0, 1e-5) == 0.0
    assert accountant.epsilon(0.0, 3, 1e-5) == math.inf


@pytest.mark.parametrize(("target", "rounds"), [(8.0, 10), (0.5, 3), (1.0, 1000)])
def test_the_least_noise_keeps_to_the_target_and_a_little_less_does_not(target, rounds):
    noise = accountant.noise_for(target, rounds, 1e-5)
    assert 0.999 * target < accountant.epsilon(noise, rounds, 1e-5) <= target
    assert accountant.epsilon(0.999 * noise, rounds, 1e-5) > target
    assert accountant.most_rounds(noise, target, 1e-5) == rounds


def test_a_target_gives_the_noise():
    settings = calibrated(Fixed(epsilon=8.0), 10, 5)
    assert settings.noise == accountant.noise_for(8.0, 10, 1e-5)
    assert calibrated(Fixed(noise=1.0), 10, 5) == Fixed(noise=1.0)


def test_noise_that_keeps_to_the_target_stays_as_it_is():
    assert calibrated(Adaptive(noise=9.0, epsilon=8.0), 10, 5).noise == 9.0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Fixed(), r"privacy\.noise or privacy\.epsilon, got neither"),
        (Fixed(noise=1.0, epsilon=8.0), r"10 rounds with noise 1 cost 17\.9: run at most 2, or .*noise to 1\.898"),
        (Fixed(noise=1e-4), r"privacy\.noise: expected 0, or at least 0\.001, got 0\.0001"),
        (Fixed(epsilon=1e-3), r"cannot be reached in 10 rounds"),
        (Fixed(noise=1.0, delta=0.25), r"privacy\.delta: expected less than one by the number of workers, 0\.2"),
        (Adaptive(noise=1.0, count_noise=0.5), r"privacy\.count_noise"),
    ],
    ids=[
        "nothing asked for",
        "too many rounds",
        "hardly any noise",
        "impossible",
        "a delta that promises nothing",
        "count without noise",
    ],
)
def test_what_cannot_be_kept_is_an_error_before_the_run(settings, says):
    with pytest.raises(ConfigError, match=says):
        calibrated(settings, 10, 5)
