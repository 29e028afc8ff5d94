"""U-statistics and intervals on samples whose moments are known."""

import numpy as np
import pytest

from tests.kesten import Kesten
from truncation.diagnostics import Trial, agreement, best, mean_of, product, squared_norm
from truncation.diagnostics.attribution import attributed


def normal(rng, n, mean, spread):
    return mean + rng.normal(size=(n, len(mean))) * spread


def assert_unbiased(values, truth):
    values = np.asarray(values)
    assert abs(values.mean() - truth) <= 4 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("mean", [np.zeros(3), np.array([0.3, -0.2, 0.1])])
def test_squared_norms_are_unbiased_where_the_plug_in_is_not(mean):
    rng, spread, n = np.random.default_rng(0), np.array([1.0, 2.0, 0.5]), 6
    draws = [normal(rng, n, mean, spread) for _ in range(1500)]
    values = [squared_norm(x, resamples=4).point for x in draws]
    assert_unbiased(values, mean @ mean)
    # The known variance of the U-statistic: 4/n m'Sm + 2 tr S² / (n(n-1)).
    variance = 4 / n * np.sum((mean * spread) ** 2) + 2 / (n * (n - 1)) * np.sum(spread**4)
    np.testing.assert_allclose(np.var(values), variance, rtol=0.2)
    plug_in = [x.mean(axis=0) @ x.mean(axis=0) for x in draws]
    assert np.mean(plug_in) - mean @ mean > 0.5 * np.sum(spread**2) / n


def test_products_are_unbiased_for_samples_that_depend_on_each_other():
    rng, one, other = np.random.default_rng(1), np.array([1.0, -0.5]), np.array([0.2, 0.7])
    values = []
    for _ in range(3000):
        noise = rng.normal(size=(5, 2))
        values.append(product(one + noise, other + 2 * noise))
    assert_unbiased(values, one @ other)


@pytest.mark.parametrize(
    ("size", "n", "spreads", "least"),
    [(1, 8, 1.0, 0.92), (1, 32, 1.0, 0.92), (4, 16, 1.0, 0.92), (4, 16, 0.25, 0.84)],
    ids=["one dimension", "many samples", "isotropic", "one noisy direction"],
)
@pytest.mark.parametrize("length", [0.0, 1.5, 10.0])
def test_intervals_cover(size, n, spreads, least, length):
    """`length` in standard errors along the noisiest direction; the worst is about 1.5, where neither term rules."""
    rng, spread = np.random.default_rng(2), spreads ** np.arange(size)
    mean = np.zeros(size)
    mean[0] = length / np.sqrt(n)
    hits, wide = 0, 400
    for seed in range(wide):
        found = squared_norm(normal(rng, n, mean, spread), resamples=300, seed=seed)
        assert 0 <= found.low <= found.high
        hits += found.low <= mean @ mean <= found.high
    assert hits / wide >= least
    if length == 10:
        assert found.low > 0
        assert hits / wide <= 0.99


def test_an_interval_is_never_empty_and_shrinks_to_a_point_without_noise():
    lucky = np.array([[1.0], [-1.0], [2.0], [-2.0]])  # a mean of nought, to the bit
    found = squared_norm(lucky)
    assert (found.low, found.point < 0) == (0, True)
    assert found.high > 0
    exact = squared_norm(np.tile([3.0, 4.0], (5, 1)))
    np.testing.assert_allclose(exact, 25, rtol=1e-12)
    assert exact.over(5.0).point == exact.point / 5


def test_means_have_students_interval():
    rng = np.random.default_rng(3)
    hits = [found.low <= 1 <= found.high for found in (mean_of(1 + rng.normal(size=5)) for _ in range(600))]
    assert 0.92 <= np.mean(hits) <= 0.98


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="1 samples: signal and noise"):
        squared_norm(np.ones((1, 2)))


def test_agreement_of_known_vectors():
    truths = np.tile([3.0, 4.0, 0.5], (6, 1))
    same = agreement(truths[:, None], truths)
    np.testing.assert_allclose([same.cosine.point, same.signs.point, same.efficiency], 1, rtol=1e-12)
    assert same.per_cost(50) == same.efficiency / 50
    uphill = agreement(-truths[:, None], truths)
    np.testing.assert_allclose([uphill.cosine.point, uphill.signs.point, uphill.efficiency], [-1, 0, 0], atol=1e-12)
    signs = agreement((truths * [1, -1, 1])[:, None], truths)
    np.testing.assert_allclose(signs.signs.point, 2 / 3)
    silent = np.array([1.0, 1.0, 0.0])  # a coordinate without a gradient has no sign to agree with
    np.testing.assert_allclose(agreement((truths * [1, -1, 0])[:, None], truths * silent).signs.point, 1 / 2)


def test_the_efficiency_of_an_unbiased_estimate_is_signal_over_signal_and_noise():
    rng, truth, spread = np.random.default_rng(4), np.array([1.0, 0.0, 2.0]), 1.5
    gradients = truth + spread * rng.normal(size=(4000, 1, 3))
    # Truths that share the noise of the estimates: a plug-in would call that agreement.
    truths = truth + spread * (gradients[:, 0] - truth)
    found = agreement(gradients, truths).efficiency
    np.testing.assert_allclose(found, 5 / (5 + 3 * spread**2), rtol=0.1)


@pytest.mark.parametrize("spreads", [(1.0, 0.5, 2.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
def test_variance_components_of_a_nested_model(spreads):
    rng, (perturbation, inner, task) = np.random.default_rng(5), spreads
    found = []
    for _ in range(300):
        samples = perturbation * rng.normal(size=(6, 3, 4, 2))
        samples += inner * rng.normal(size=(6, 3, 1, 2)) + task * rng.normal(size=(6, 1, 1, 2))
        found.append([part.point for part in attributed(samples)])
    for values, spread in zip(np.transpose(found), spreads, strict=True):
        assert_unbiased(values, 2 * spread**2)


def test_the_best_setting_at_a_cost():
    biased, unbiased = Trial("biased", 0.04, 1.0, 1.0), Trial("unbiased", 0.0, 40.0, 2.0, unit=2)
    assert best([biased, unbiased], 100).name == "biased"  # .05 against .8
    assert best([biased, unbiased], 10_000).name == "unbiased"  # .0401 against .008
    assert unbiased.lives(11) == 4
    assert (biased.enough, unbiased.enough) == (25, float("inf"))
    with pytest.raises(ValueError, match="none of 1 settings"):
        best([unbiased], 3)


def test_the_best_window_of_kestens_loop():
    """K* = 18 with 32 lives at equal numbers of lives (reference O3), by the closed form."""
    problem = Kesten(0.9, 0.45)
    trials = []
    for window in range(1, 65):
        total = problem.error(window, 10**12)
        trials.append(Trial(window, total, (problem.error(window, 1) - total), 1.0))
    assert best(trials, 32).name == 18
