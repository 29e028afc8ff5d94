"""What papers report about evolution strategies on unrolled problems, held to numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.oracles import (
    LORENZ_THETA,
    Influence,
    Lorenz,
    Oscillation,
    ToySchedule,
    consecutive,
    mean_gradient,
    replicate,
)
from tests.truncation.test_evolution import assert_mean
from truncation import (
    RTRL,
    ControlVariateES,
    FullES,
    NoiseReuseES,
    PersistentES,
    RunningMean,
    TruncatedBackprop,
    TruncatedES,
    WindowGradient,
)
from truncation.lives import life_key
from truncation.noise import gaussian


def descend(problem, estimator, transform, theta, steps, seed):
    """theta after every step of descent."""

    def step(carry, number):
        theta, state, moments = carry
        key = jax.random.fold_in(jax.random.key(seed), number)
        estimate, state = estimator.estimate(problem, theta, state, key)
        updates, moments = transform.update(estimate.gradient, moments, theta)
        theta = optax.apply_updates(theta, updates)
        return (theta, state, moments), theta

    carry = theta, estimator.init(problem, theta, jax.random.key(seed)), transform.init(theta)
    return jax.lax.scan(step, carry, jnp.arange(steps))[1]


# Oscillation (Metz et al. 2019, figure 1): the gradient of the smoothed loss, and the variance of one antithetic pair.
@pytest.mark.parametrize(
    ("frequency", "gradient", "variance"),
    [(1, 0.065479, 8.6e-3), (4, -0.058017, 5.3e-3), (10, 0.241065, 0.059), (100, 0.04, 0.028), (1000, 0.04, 0.0136)],
)
def test_smoothing_tames_oscillations(frequency, gradient, variance):
    n, std, theta = 100_000, 0.3, jnp.array(2.0)
    k = frequency / np.pi
    np.testing.assert_allclose(0.1 * k * np.exp(-((k * std) ** 2) / 2) * np.cos(2 * k) + 2 / 50, gradient, atol=1e-6)
    with jax.enable_x64(True):
        samples = replicate(FullES(1, 2, std), Oscillation(frequency), theta, jax.random.key(frequency), 1, n)
    assert_mean(samples, gradient)
    np.testing.assert_allclose(samples.var(), variance, rtol=0.07)


@pytest.mark.parametrize("std", [1e-3, 1e-6])
def test_a_small_perturbation_finds_the_directional_derivative(std):
    with jax.enable_x64(True):
        theta, key, problem = jnp.array([-3.0, -2.0]), jax.random.key(3), ToySchedule(20)
        estimate, _ = FullES(20, 2, std).estimate(problem, theta, None, key)
        gradient = mean_gradient(TruncatedBackprop(20, 20, 1), problem, theta, key)
        noise = gaussian(theta, std, jax.random.fold_in(life_key(key, jnp.int32(0)), 21))
        np.testing.assert_allclose(estimate.gradient, noise * (noise @ gradient) / std**2, rtol=10 * std)


# Influence balancing (Vicol et al. 2021): every window of one segment points the wrong way.
def influence(estimator, steps, seed, rate=1e-4):
    return descend(Influence(), estimator, optax.sgd(rate), jnp.array(0.5), steps, seed)


def test_influence_balancing_defeats_truncated_es():
    theta = jax.jit(lambda: influence(TruncatedES(10**6, 1, 200, 0.1, stagger=False), 3000, 0)[-1])()
    np.testing.assert_allclose(theta, 3.2597, atol=0.05)  # as truncated backprop; the optimum is -1/6


def test_noise_reuse_descends_exact_gradients_by_another_step():
    # Losses are quadratic in theta and lives never end: each pair's ε ε-derivative / σ² is exact times (ε/σ)², always
    # the same. So noise reuse is as fast as exact gradients, and no faster: at learning rate 1e-4 these take 1195 steps
    # to a loss of 1e-6, and 612 at the best rate, 1.5e-4. Persistent ES of 1000 particles takes 1052 to 1276: to be
    # twice as fast as that at the same rate is beyond any unbiased estimator of little variance.
    with jax.enable_x64(True):
        reuse = NoiseReuseES(10**6, 1, 20, 0.1, stagger=False)
        key, theta = jax.random.key(7), jnp.array(0.5)
        start = reuse.init(Influence(), theta, key)
        born = reuse.estimate(Influence(), theta, start, jax.random.fold_in(key, 0))[1]
        noise = jax.vmap(lambda data: gaussian(theta, 0.1, jax.random.wrap_key_data(data)))(born.trace)
        factor = jnp.mean(noise**2) / 0.1**2
        assert abs(factor - 1) > 0.1
        sampled = jax.jit(lambda: influence(reuse, 300, 7))()
        exact = jax.jit(lambda: influence(RTRL(10**6, 1, 1, stagger=False), 300, 7, 1e-4 * factor))()
        np.testing.assert_allclose(sampled, exact, rtol=1e-8)
        assert abs(sampled[-1] - 0.5) > 0.1


def steps_until(path, loss):
    """After how many steps the loss at rest, 18 (θ + 1/6)², stays below that."""
    return np.max(np.nonzero(~(18 * (np.asarray(path) + 1 / 6) ** 2 < loss))[0], initial=-1) + 1


@pytest.mark.slow
def test_a_tenth_of_the_particles_is_enough_for_noise_reuse_and_not_for_persistent_es():
    def steps(kind):
        with jax.enable_x64(True):
            train = jax.jit(lambda seed: influence(kind(10**6, 1, 100, 0.1, stagger=False), 5000, seed))
            return np.array([steps_until(train(seed), 1e-6) for seed in range(5)])

    reuse, persistent = steps(NoiseReuseES), steps(PersistentES)
    print(reuse, persistent)
    assert np.all(reuse <= 2500)
    assert np.mean(reuse) <= np.mean(persistent) / 2


@pytest.mark.slow
def test_influence_balancing_in_five_of_five_seeds():
    def finals(kind):
        train = jax.jit(lambda seed: influence(kind(10**6, 1, 1000, 0.1, stagger=False), 3000, seed)[-1])
        return np.array([train(seed) for seed in range(5)])

    persistent, reuse, truncated = (finals(kind) for kind in (PersistentES, NoiseReuseES, TruncatedES))
    assert np.all(np.abs(persistent + 1 / 6) < 1e-3)
    assert np.all(np.abs(reuse + 1 / 6) < 1e-3)
    assert np.all(truncated > 0.5)


# The toy schedule problem (Vicol et al. 2021). Best linear schedule: about 552; where truncation ends: 2423.
START = (-4.0, -4.0)


def toy_loss(theta):
    """Sum of the losses of a lifetime at theta itself."""
    return 100 * TruncatedBackprop(100, 100, 1).estimate(ToySchedule(), theta, None, jax.random.key(0))[0].loss


def test_the_toy_schedule_has_its_published_loss_and_gradient():
    with jax.enable_x64(True):
        theta = jnp.array(START)
        np.testing.assert_allclose(jax.jit(toy_loss)(theta), 2487.769, atol=1e-3)
        full = mean_gradient(TruncatedBackprop(100, 100, 1), ToySchedule(), theta, jax.random.key(0))
        np.testing.assert_allclose(100 * full, [-3.91080, -1.71153], atol=1e-5)
        smooth = 100 * mean_gradient(FullES(100, 40_000, 0.3), ToySchedule(), theta, jax.random.key(0))
        np.testing.assert_allclose(smooth, [-4.09, -1.84], atol=4 * 0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "accepts"),
    [
        (PersistentES(100, 10, 100, 0.3, stagger=False), lambda finals: finals <= 581),
        (PersistentES(100, 10, 100, 0.3), lambda finals: finals <= 581),
        # theta never comes to rest: along the last half of a run the loss is between 556 and 583, and 565.4 on average
        # in lock-step, 564.8 staggered. The last one alone, of five seeds in lock-step, happens to average 572.
        (NoiseReuseES(100, 10, 100, 0.3), lambda finals: np.mean(finals) <= 565),
        (NoiseReuseES(100, 10, 100, 0.3, stagger=False), lambda finals: finals <= 600),
        (TruncatedES(100, 10, 100, 0.3, stagger=False), lambda finals: finals >= 1400),
        # With σ = 1 it wanders between 1100 and 1780 (reported: ends of 1235 to 1631); one of five ends at 1282.
        (TruncatedES(100, 10, 100, 1.0, stagger=False), lambda finals: np.mean(finals) >= 1400),
        (TruncatedBackprop(100, 10, 1, stagger=False), lambda finals: finals >= 2300),
    ],
    ids=["PES", "PES staggered", "NRES staggered", "NRES", "TES", "TES wide", "TBPTT"],
)
def test_the_toy_schedule_in_five_of_five_seeds(estimator, accepts):

    @jax.jit
    def final(seed):
        path = descend(ToySchedule(), estimator, optax.adam(1e-2, b1=0.99), jnp.array(START), 20_000, seed)
        return toy_loss(path[-1])

    finals = np.array([final(seed) for seed in range(5)])
    assert np.all(accepts(finals)), finals


# Lorenz (Li et al. 2023): 2000 steps of chaos. Variances are over replicates of one estimate, in units of one pair's.
def lorenz(estimator, replicates, estimates=1):
    theta = jnp.array(LORENZ_THETA)
    run = replicate(estimator, Lorenz(), theta, jax.random.key(1), estimates, replicates)
    return run.mean(axis=0), run.var(axis=0).sum() * estimator.lives / 2


def test_noise_reuse_has_a_fifth_of_the_variance_of_persistent_es_on_lorenz():
    _, reuse = lorenz(NoiseReuseES(20, 1, 40, 0.04), 200)
    _, persistent = lorenz(PersistentES(20, 1, 40, 0.04), 200)
    assert reuse / persistent < 0.2


def test_backprop_explodes_on_lorenz():
    # Reported in single precision, whose rounding the dynamics amplify to 4 %, differently with every compiler setting.
    def mean_loss(theta):
        step = lambda life, _: Lorenz().advance(theta, life, None)  # noqa: E731
        return jnp.mean(jax.lax.scan(step, Lorenz().start(theta, None), length=20)[1].loss)

    with jax.enable_x64(True):
        theta = jnp.array(LORENZ_THETA, jnp.float64)
        full = mean_gradient(TruncatedBackprop(20, 20, 1), Lorenz(), theta, jax.random.key(0))
        np.testing.assert_allclose(full, jax.jit(jax.jacfwd(mean_loss))(theta), rtol=1e-6)
    np.testing.assert_allclose(full, [3.5e4, -1.01e6], rtol=0.05)  # the smoothed gradient is (76, 1041)


@pytest.mark.parametrize(
    ("settings", "control", "beta"),
    [((20, 20, 240), WindowGradient(), None), ((20, 1, 60), WindowGradient(), 1.0)],
    ids=["exploded", "windows"],
)
def test_a_control_variate_cuts_the_variance_of_noise_reuse_ten_times(settings, control, beta):
    base = NoiseReuseES(*settings, 0.04, stagger=False)
    corrected = ControlVariateES(base, control, *[] if beta is None else [beta])
    estimates = 20 // base.window  # a lifetime
    plain_mean, plain = lorenz(base, 100, estimates)
    mean, variance = lorenz(corrected, 100, estimates)
    print(f"variance / {plain / variance:.1f}", plain_mean, mean)
    assert plain / variance > 10
    assert np.all(np.abs(mean - [76, 1041]) < 4 * np.sqrt((variance / (base.lives / 2) / 100) + np.array([8, 12]) ** 2))


@pytest.mark.slow
def test_what_a_guess_can_explain_of_single_windows_on_lorenz():
    # Little, even with the best one for every age apart: chaos is no linear function of the noise. Of lifetimes, most.
    n, std = 20_000, 0.04
    noise = std * jax.random.normal(jax.random.key(0), (n, 2))

    def losses(theta):
        def segment(life, _):
            life, report = Lorenz().advance(theta, life, None)
            return life, report.loss

        return jax.lax.scan(segment, Lorenz().start(theta, None), length=20)[1]

    @jax.jit
    def differences(noise):
        theta = jnp.array(LORENZ_THETA)
        return jax.vmap(lambda e: (losses(theta + e) - losses(theta - e)) / 2)(noise)

    def variances(noise, difference):
        """Of one pair without a guess, and with the best: weighted least squares."""
        weighted = noise * np.sum(noise**2, axis=1, keepdims=True)
        best = np.linalg.solve(weighted.T @ noise, weighted.T @ difference)
        return [(noise * (difference - noise @ p)[:, None] / std**2).var(axis=0).sum() for p in (0 * best, best)]

    by_age, noise = np.asarray(differences(noise), np.float64), np.asarray(noise, np.float64)
    plain, least = np.sum([variances(noise, difference) for difference in by_age.T], axis=0)
    assert 1.5 < plain / least < 2.2
    plain, least = variances(noise, by_age.mean(axis=1))
    assert 14 < plain / least < 19


@pytest.mark.slow
def test_a_running_mean_cuts_the_variance_on_lorenz_as_well():
    def last(key):
        settings = ControlVariateES(NoiseReuseES(20, 20, 120, 0.04), RunningMean())
        return consecutive(settings, Lorenz(), jnp.array(LORENZ_THETA), key, 30)[2].gradient[-1]

    variance = np.asarray(jax.jit(jax.vmap(last))(jax.random.split(jax.random.key(2), 100))).var(axis=0).sum()
    _, plain = lorenz(NoiseReuseES(20, 20, 120, 0.04), 200)
    print("running mean:", plain / 60 / variance)
    assert plain / 60 / variance > 5
