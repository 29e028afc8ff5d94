"""Unbiasedness, variance and known bias of the evolution strategies, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import (
    LQ_GRADIENT,
    LQ_THETA,
    LQ_TRUNCATED,
    LQ_VARIANCE,
    Influence,
    Inherited,
    LinearQuadratic,
    Ramp,
    Terminal,
    consecutive,
    mean_gradient,
    replicate,
)
from truncation import FullES, NoiseReuseES, PersistentES, TruncatedBackprop, TruncatedES
from truncation.noise import gaussian


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def assert_mean(samples, truth, errors=4.0):
    """The mean of independent samples is the truth within so many standard errors, in every coordinate."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - truth) <= errors * error), (samples.mean(axis=0), truth, error)


# A pair's quadratic losses make the antithetic difference exact; so the truth is the unsmoothed gradient, for any std.
SINGLE_PAIRS = {
    "full": (FullES(20, 2, 0.5), 1, LQ_VARIANCE[20]),
    "reuse": (NoiseReuseES(20, 5, 2, 0.5, stagger=False), 4, LQ_VARIANCE[20]),
    "persistent 1": (PersistentES(20, 1, 2, 0.5, stagger=False), 20, LQ_VARIANCE[1]),
    "persistent 5": (PersistentES(20, 5, 2, 0.5, stagger=False), 4, LQ_VARIANCE[5]),
    "persistent 10": (PersistentES(20, 10, 2, 0.5, stagger=False), 2, LQ_VARIANCE[10]),
}


@pytest.mark.parametrize("name", SINGLE_PAIRS)
def test_lifetimes_in_lock_step_have_the_closed_form_mean_and_variance(name):
    estimator, estimates, variance = SINGLE_PAIRS[name]
    n = 40_000
    samples = replicate(estimator, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(3), estimates, n)
    error = np.sqrt(variance * np.sum(LQ_GRADIENT**2) / n)
    assert np.linalg.norm(samples.mean(axis=0) - LQ_GRADIENT) < 4 * error
    np.testing.assert_allclose(samples.var(axis=0).sum() / np.sum(LQ_GRADIENT**2), variance, rtol=0.05)


# Variance of a window of a lifetime at uniform age (closed form), which spreading the ages evenly can only lower.
@pytest.mark.parametrize(("estimator", "variance"), [(PersistentES, 5.99), (NoiseReuseES, 4.71)])
def test_the_very_first_estimate_of_staggered_lives_is_unbiased(estimator, variance):
    n = 100_000
    gradient = mean_gradient(estimator(20, 5, 2 * n, 0.5), LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(4))
    assert np.linalg.norm(gradient - LQ_GRADIENT) < 4 * np.sqrt(variance * np.sum(LQ_GRADIENT**2) / n)


@pytest.mark.parametrize("estimator", [PersistentES, NoiseReuseES])
@pytest.mark.parametrize(("horizon", "window"), [(7, 3), (5, 4)])
def test_births_in_the_middle_of_a_window_leave_no_bias(estimator, horizon, window):
    settings = estimator(horizon, window, 400, 0.5, stagger=False)
    samples = replicate(settings, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(5), horizon, 150)
    whole = TruncatedBackprop(horizon, horizon, 1)
    assert_mean(samples, mean_gradient(whole, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(0)))


@pytest.mark.parametrize("window", [1, 5, 10])
def test_truncated_es_has_exactly_the_bias_of_truncated_backprop(window):
    n, theta, key = 50_000, jnp.array(LQ_THETA), jax.random.key(6)
    cut = TruncatedBackprop(20, window, 1, stagger=False)
    windows = jax.jit(lambda: consecutive(cut, LinearQuadratic(), theta, key, 20 // window)[2].gradient)()
    error = np.sqrt(4 * np.mean(np.sum(windows**2, axis=1)) / (20 // window) / n)
    estimator = TruncatedES(20, window, 2 * n, 0.5, stagger=False)
    gradient = mean_gradient(estimator, LinearQuadratic(), theta, key, 20 // window)
    assert np.linalg.norm(gradient - LQ_TRUNCATED[window]) < 4 * error
    assert np.linalg.norm(gradient - LQ_GRADIENT) > 20 * error


@pytest.mark.parametrize(
    ("estimator", "truth"),
    [
        (FullES(6, 200, 0.5), 1.0),
        (TruncatedES(6, 2, 200, 0.5, stagger=False), 2 / 6),
        (PersistentES(6, 2, 200, 0.5, stagger=False), 1.0),
        (PersistentES(7, 3, 200, 0.5, stagger=False), 1.0),
        (NoiseReuseES(7, 3, 200, 0.5, stagger=False), 1.0),
    ],
)
def test_a_birth_is_perturbed_with_the_noise_it_is_credited_to(estimator, truth):
    samples = replicate(estimator, Inherited(), jnp.array(0.3), jax.random.key(13), estimator.horizon, 100)
    assert_mean(samples, truth)
    assert samples.std(ddof=1) / np.sqrt(100) < 0.05


def test_truncated_es_carries_the_life_under_theta_itself():
    theta = jnp.array(0.3)
    _, last, _ = consecutive(TruncatedES(8, 2, 10, 0.5), Ramp(spread=1.0), theta, jax.random.key(7), 3)
    life, age = last.lived
    np.testing.assert_allclose(life["level"], life["origin"] + age * theta, atol=1e-12)


@pytest.mark.parametrize("estimator", [PersistentES, NoiseReuseES])
@pytest.mark.parametrize(("horizon", "window"), [(10, 5), (7, 4)])
def test_the_last_segment_is_credited_to_the_life_that_lived_it(estimator, horizon, window):
    # Crediting it to the newest noise alone returns 21 % of the gradient here (learned_optimization, T=10, W=5).
    settings = estimator(horizon, window, 400, 0.5, stagger=False)
    samples = replicate(settings, Terminal(horizon), jnp.array(0.3), jax.random.key(8), horizon, 100)
    assert_mean(samples, 1.0)
    assert samples.std(ddof=1) / np.sqrt(100) < 0.02


def test_the_history_of_persistent_es_is_empty_at_a_birth():
    n, std = 4000, 0.5

    # Noises since the birth: with a window of 3, lives of 7 are cut into 3 3 1|2 3 2|1 3 3.
    for (horizon, window), noises in {(6, 2): [1, 2, 3, 1], (7, 3): [1, 2, 1, 2, 1, 2, 3, 1]}.items():
        settings = PersistentES(horizon, window, 2 * n, std, stagger=False)
        estimate = jax.jit(lambda state, key, s=settings: s.estimate(Ramp(), jnp.array(0.3), state, key)[1])
        state, spreads = settings.init(Ramp(), jnp.array(0.3), jax.random.key(9)), []
        for number in range(len(noises)):
            state = estimate(state, jax.random.key(number))
            spreads.append(np.var(state.trace) / std**2)
        np.testing.assert_allclose(spreads, noises, rtol=4 * np.sqrt(2 / n))


@pytest.mark.parametrize(("horizon", "window"), [(12, 3), (7, 3)])
def test_burn_in_lives_with_the_noise_of_the_estimator(horizon, window):
    theta, problem, key = jnp.array(0.3), Ramp(spread=1.0), jax.random.key(10)
    pairs = PersistentES(horizon, window, 16, 0.5).init(problem, theta, key)
    level, old = pairs.lived.life["level"], np.asarray(pairs.lived.age) < horizon
    assert sorted(set(np.asarray(pairs.lived.age))) == [*range(window, horizon, window), horizon]
    np.testing.assert_allclose((level[:, 0] - level[:, 1])[old] / 2, window * pairs.trace[old], atol=1e-12)

    pairs = NoiseReuseES(horizon, window, 16, 0.5).init(problem, theta, key)
    level, noise = (
        pairs.lived.life["level"],
        jax.vmap(lambda data: gaussian(theta, 0.5, jax.random.wrap_key_data(data)))(pairs.trace),
    )
    np.testing.assert_allclose((level[:, 0] - level[:, 1])[old] / 2, (pairs.lived.age * noise)[old], atol=1e-12)


ANY = [
    FullES(6, 40, 0.5),
    *(kind(6, 2, 40, 0.5) for kind in (TruncatedES, PersistentES, NoiseReuseES)),
    PersistentES(6, 4, 40, 0.5),
]


@pytest.mark.parametrize("estimator", ANY)
def test_antithetic_partners_share_all_randomness(estimator):
    # Inner noise a thousand times the signal must cancel to rounding.
    def gradients(noise):
        return consecutive(estimator, Ramp(noise), jnp.array(0.3), jax.random.key(11), 3)[2].gradient

    quiet, loud = jax.jit(jax.vmap(gradients))(jnp.array([0.0, 1e3]))
    np.testing.assert_allclose(loud, quiet, rtol=1e-9)


def test_different_lives_and_segments_share_no_randomness():
    def loss(key):
        return FullES(4, 8, 1e-9).estimate(Ramp(noise=1.0), jnp.array(0.0), None, key)[0].loss

    # The mean over 4 pairs and 4 segments of a standard normal each (partners share theirs).
    n = 4000
    losses = jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(12), n))
    np.testing.assert_allclose(np.var(losses), 1 / 16, rtol=4 * np.sqrt(2 / n))


def test_noise_reuse_draws_its_noise_at_births_only():
    for horizon, window, births in [(6, 2, [0, 3, 6]), (7, 3, [0, 2, 4, 7])]:
        settings = NoiseReuseES(horizon, window, 4, 0.5, stagger=False)
        estimate = jax.jit(lambda state, key, s=settings: s.estimate(Ramp(), jnp.array(0.3), state, key)[1])
        state = settings.init(Ramp(), jnp.array(0.3), jax.random.key(9))
        changed = []
        for number in range(8):
            before, state = state.trace, estimate(state, jax.random.key(number))
            if np.all(np.any(before != state.trace, axis=1)):
                changed.append(number)
        assert changed == births


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 5), marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", [PersistentES, NoiseReuseES])
def test_influence_balancing_is_solved(estimator, seeds):
    settings = estimator(10**6, 1, 1000, 0.1, stagger=False)

    def train(key):
        def step(carry, number):
            theta, state = carry
            estimate, state = settings.estimate(Influence(), theta, state, jax.random.fold_in(key, number))
            return (theta - 1e-4 * estimate.gradient, state), None

        theta = jnp.array(0.5, jnp.float32)
        carry = theta, settings.init(Influence(), theta, key)
        return jax.lax.scan(step, carry, jnp.arange(3000))[0][0]

    with jax.enable_x64(False):
        train = jax.jit(train)
        finals = np.array([train(jax.random.key(seed)) for seed in seeds])
    np.testing.assert_allclose(finals, -1 / 6, atol=1e-3)


def test_influence_balancing_defeats_short_windows():
    def step(carry, number):
        theta, state = carry
        estimate, state = settings.estimate(Influence(), theta, state, jax.random.fold_in(jax.random.key(0), number))
        return (theta - 1e-4 * estimate.gradient, state), None

    settings, theta = TruncatedBackprop(10**6, 1, 1, stagger=False), jnp.array(0.5)
    carry = theta, settings.init(Influence(), theta, jax.random.key(0))
    (theta, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(3000)))(carry)
    np.testing.assert_allclose(theta, 3.2597, atol=1e-3)
