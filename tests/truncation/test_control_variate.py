"""Control variates: no bias whatever the guess, the closed form of the variance, and what they gain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import (
    LQ_GRADIENT,
    LQ_THETA,
    LQ_TRUNCATED,
    Cubic,
    Fragile,
    Inherited,
    LinearQuadratic,
    consecutive,
    mean_gradient,
    replicate,
)
from tests.truncation.test_evolution import assert_mean
from truncation import (
    AnalyticPES,
    ControlVariateES,
    Fitted,
    FullES,
    GeneralizedPES,
    NoiseReuseES,
    PersistentES,
    RunningMean,
    TruncatedBackprop,
    TruncatedES,
    WindowGradient,
)
from truncation.shaping import z_scores

SQUARE = np.sum(LQ_GRADIENT**2)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def lq(estimator, estimates, n, seed=3):
    return replicate(estimator, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(seed), estimates, n)


@pytest.mark.parametrize(
    ("window", "beta", "published"),
    [(5, 1.0, 1.0320), (5, 1.785, 0.3204), (10, 1.0, 0.2794), (10, 1.262, 0.1114)],
)
def test_the_variance_is_that_of_the_error_of_the_guess(window, beta, published):
    n = 20_000
    expected = 4 * np.sum((LQ_GRADIENT - beta * LQ_TRUNCATED[window]) ** 2) / SQUARE
    np.testing.assert_allclose(expected, published, atol=1e-4)
    base = NoiseReuseES(20, window, 2, 0.5, stagger=False)
    samples = lq(ControlVariateES(base, WindowGradient(), beta), 20 // window, n)
    assert np.linalg.norm(samples.mean(axis=0) - LQ_GRADIENT) < 4 * np.sqrt(expected * SQUARE / n) + 1e-9
    np.testing.assert_allclose(samples.var(axis=0).sum() / SQUARE, expected, rtol=0.05, atol=1e-12)


# Few pairs and correlations that are strong: any guess or coefficient that knows the noise it meets shows.
FEW = {
    "fitted": ControlVariateES(NoiseReuseES(20, 5, 6, 0.5, stagger=False), WindowGradient(), Fitted(0.9)),
    "running mean": ControlVariateES(NoiseReuseES(20, 5, 6, 0.5, stagger=False), RunningMean(0.5), Fitted(0.5)),
    "persistent": ControlVariateES(PersistentES(20, 5, 6, 0.5, stagger=False), WindowGradient(), Fitted(0.9)),
    "block": ControlVariateES(GeneralizedPES(20, 5, 6, 0.5, 10, stagger=False), RunningMean(0.5), Fitted(0.5)),
    "whole": ControlVariateES(FullES(20, 6, 0.5), RunningMean(0.5), Fitted(0.5)),
}


@pytest.mark.parametrize("name", FEW)
def test_no_bias_with_three_pairs(name):
    assert_mean(lq(FEW[name], 4, 20_000), LQ_GRADIENT)


@pytest.mark.parametrize("base", [NoiseReuseES, PersistentES])
@pytest.mark.parametrize("control", [WindowGradient(), RunningMean(0.5)])
def test_no_bias_if_births_fall_inside_windows(base, control):
    settings = ControlVariateES(base(7, 3, 6, 0.5, stagger=False), control)
    whole = TruncatedBackprop(7, 7, 1)
    truth = mean_gradient(whole, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(0))
    assert_mean(lq(settings, 14, 4000), truth)


@pytest.mark.parametrize("estimator", [AnalyticPES(7, 3, 6, 0.5, stagger=False), AnalyticPES(6, 2, 6, 0.5)])
def test_a_birth_is_part_of_its_window(estimator):
    samples = replicate(estimator, Inherited(), jnp.array(0.3), jax.random.key(13), estimator.horizon, 400)
    assert_mean(samples, 1.0)
    assert samples.std(ddof=1) / np.sqrt(400) < 0.05


def test_a_guess_that_is_not_finite_counts_as_none():
    class Kinked(LinearQuadratic):
        def advance(self, theta, life, key):
            life, segment = super().advance(theta, life, key)
            return life, segment._replace(loss=segment.loss + jnp.sqrt(jnp.sum(theta) * 0))  # derivative 0 / 0

    base, theta, key = NoiseReuseES(20, 5, 12, 0.5), jnp.array(LQ_THETA), jax.random.key(0)
    plain = consecutive(base, Kinked(), theta, key, 3)[2]
    settings = ControlVariateES(base, WindowGradient(), 1.0)
    corrected = jax.jit(lambda: consecutive(settings, Kinked(), theta, key, 3)[2])()
    np.testing.assert_allclose(corrected.gradient, plain.gradient, rtol=1e-10)
    assert not np.any(corrected.metrics["dead"])


@pytest.mark.parametrize("control", [WindowGradient(), RunningMean()])
def test_broken_pairs_are_masked_counted_and_reborn(control):
    problem = Fragile(lambda task: task > 0.6)
    settings = ControlVariateES(NoiseReuseES(5, 2, 32, 0.5), control)
    run = jax.jit(lambda: consecutive(settings, problem, jnp.array(0.7), jax.random.key(3), 12)[2])
    estimates = run()
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(estimates))
    assert 0.15 < np.mean(estimates.metrics["dead"]) < 0.6


def test_the_fitted_coefficient_finds_the_least_variance():
    # Whole lifetimes with half of the gradient for a guess: beta* = 2 and nothing is left.
    class Halved(LinearQuadratic):
        def advance(self, theta, life, key):
            life, segment = super().advance(0.5 * theta + 0.5 * jax.lax.stop_gradient(theta), life, key)
            return life, segment

    theta = jnp.array(LQ_THETA)
    settings = ControlVariateES(FullES(20, 60, 0.5), WindowGradient())
    estimates = jax.jit(lambda: consecutive(settings, Halved(), theta, jax.random.key(1), 3)[2])()
    np.testing.assert_allclose(estimates.gradient, np.tile(LQ_GRADIENT, (3, 1)), rtol=1e-9)


def test_a_running_mean_gains_without_derivatives():
    base = NoiseReuseES(20, 20, 60, 0.5)
    settings = ControlVariateES(base, RunningMean(0.9), Fitted())

    def last(key):
        return consecutive(settings, LinearQuadratic(), jnp.array(LQ_THETA), key, 25)[2].gradient[-1]

    samples = np.asarray(jax.jit(jax.vmap(last))(jax.random.split(jax.random.key(5), 300)))
    assert_mean(samples, LQ_GRADIENT)
    assert 30 * samples.var(axis=0).sum() / SQUARE < 4.0 / 5  # 4.0 without


@pytest.mark.parametrize(("window", "variance"), [(5, 0.656), (1, 1.44)])
def test_analytic_pes_has_the_published_variance(window, variance):
    samples = lq(AnalyticPES(20, window, 2, 0.5, stagger=False, smooth=False), 20 // window, 40_000)
    assert_mean(samples, LQ_GRADIENT)
    np.testing.assert_allclose(samples.var(axis=0).sum() / SQUARE, variance, rtol=0.05)


def test_analytic_pes_is_unbiased_where_the_published_one_is_not():
    # The newest of t noises moves E s³ by 3 (tθ)² + 3 t σ²; a particle without noise does not see the second term.
    horizon, std, theta = 3, 0.5, 0.4
    t = np.arange(1, horizon + 1)
    truth = np.mean(3 * t * ((t * theta) ** 2 + t * std**2))
    for smooth, missing in ((True, 0.0), (False, np.mean(3 * t * std**2))):
        settings = AnalyticPES(horizon, 1, 2, std, stagger=False, smooth=smooth)
        samples = replicate(settings, Cubic(), jnp.array(theta), jax.random.key(2), horizon, 100_000)
        assert_mean(samples, truth - missing)
        assert missing == 0 or abs(samples.mean() - truth) > 10 * samples.std() / np.sqrt(len(samples))
    exact = ControlVariateES(PersistentES(horizon, 1, 2, std, stagger=False), WindowGradient(), 1.0)
    assert_mean(replicate(exact, Cubic(), jnp.array(theta), jax.random.key(4), horizon, 100_000), truth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ControlVariateES(TruncatedES(4, 2, 6, 0.1)), "base=TruncatedES is none of FullES, "),
        (lambda: ControlVariateES(FullES(4, 6, 0.1, shaping=z_scores)), r"base\.shaping"),
        (lambda: ControlVariateES(FullES(4, 4, 0.1)), r"base\.lives=4: three teams .* at least 6"),
        (lambda: ControlVariateES(FullES(4, 4, 0.1), RunningMean(), 1.0), r"base\.lives=4"),
        (lambda: Fitted(1.0), r"decay=1.0 is not in \[0, 1\)"),
        (lambda: RunningMean(-0.1), r"decay=-0.1"),
        (lambda: AnalyticPES(4, 2, 3, 0.1), r"lives=3"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sums_remember_earlier_estimates_as_long_as_they_shall():
    settings = ControlVariateES(FullES(20, 6, 0.5), WindowGradient())
    state = settings.init(LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(0))
    again = jax.jit(
        lambda state: settings.estimate(LinearQuadratic(), jnp.array(LQ_THETA), state, jax.random.key(2))[1]
    )
    alone = again(state)
    after = again(alone)
    np.testing.assert_allclose(after.sums, 1.9 * alone.sums, rtol=1e-10)


def test_what_corrects_a_team_comes_from_the_others_and_is_what_its_coefficient_is_fitted_with():
    memory, shares = jnp.array([10.0, 20.0, 30.0]), jnp.array([0.25, 0.75])
    for team in range(3):
        own, fitted = RunningMean().guesses(memory, (), shares, jnp.int32(team))
        source = (team + 2) % 3  # neither the team itself nor that of its coefficient, team + 1
        np.testing.assert_allclose(own, memory[source] * shares)
        served, _ = RunningMean().guesses(memory, (), shares, jnp.int32((team - 1) % 3))
        np.testing.assert_allclose(fitted, served)
