"""Diagnostics against problems about which everything is known."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kesten import Kesten, NoisyQuadratic
from tests.oracles import (
    LQ_GRADIENT,
    LQ_THETA,
    LQ_TRUNCATED,
    Cubic,
    Influence,
    Inherited,
    LinearQuadratic,
    Ramp,
    lq_variances,
)
from truncation import (
    RTRL,
    ControlVariateES,
    FullES,
    Geometric,
    LagBackprop,
    NoiseReuseES,
    PersistentES,
    ResidualES,
    Segment,
    TruncatedBackprop,
    TruncatedES,
    WienerTruncation,
)
from truncation.diagnostics import (
    Backprop,
    Case,
    Exact,
    FiniteDifferences,
    Lifetimes,
    Smoothed,
    answers,
    attribution,
    bias,
    changed,
    found,
    keys_of,
    lag_spectrum,
    sampled,
    squared_norm,
    stability,
    truths,
)
from truncation.problems import Bandit


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


KEY = jax.random.key(0)
SQUARE = np.sum(LQ_GRADIENT**2)


def covers(measured, value, slack=0.0):
    return measured.low - slack <= value <= measured.high + slack


def lq(estimator, repeats=2, **more):
    case = Case(LinearQuadratic(), jnp.array(LQ_THETA), Backprop(Lifetimes.of(estimator)), **more)
    return case, answers(estimator, case, KEY, repeats)


@pytest.mark.parametrize("window", [1, 5, 10, 20])
def test_the_bias_of_windows_is_the_known_one(window):
    case, said = lq(TruncatedBackprop(20, window, 2))
    parts = bias(TruncatedBackprop(20, window, 2), case, KEY, said)
    expected = np.sum((LQ_TRUNCATED[window] - LQ_GRADIENT) ** 2)
    np.testing.assert_allclose(said.square, SQUARE, rtol=1e-8)
    np.testing.assert_allclose([parts.total.point, parts.truncation.point], expected, rtol=1e-8, atol=1e-8)
    assert (parts.smoothing, parts.sampling, parts.bootstrap, parts.hysteresis) == (None,) * 4


def test_truncated_es_has_the_bias_of_truncated_backprop_and_persistent_es_none():
    expected = np.sum((LQ_TRUNCATED[5] - LQ_GRADIENT) ** 2)
    for estimator, truth in ((TruncatedES(20, 5, 16, 0.1), expected), (PersistentES(20, 5, 16, 0.1), 0.0)):
        case, said = lq(estimator, 64)
        parts = bias(estimator, case, KEY, said)
        assert covers(parts.total, truth)
        assert covers(parts.truncation, truth)
        assert parts.total.high - parts.total.low < 0.5 * expected
        assert abs(parts.smoothing.point) < 1e-12 * SQUARE  # quadratic: smoothing moves no gradient


@pytest.mark.parametrize("window", [20, 5, 1])
def test_variances_are_those_of_the_closed_form(window):
    """Of one pair, at one age; and what lock-step adds."""
    estimator = NoiseReuseES(20, window, 2, 0.1)
    said = sampled(estimator, LinearQuadratic(), jnp.array(LQ_THETA), keys_of(KEY, 30_000))
    _, within, between = lq_variances(window, 20)
    np.testing.assert_allclose(said.variance / 2 / SQUARE, within, rtol=0.05)
    np.testing.assert_allclose(said.between / SQUARE, between, rtol=0.08, atol=1e-12)


def test_variance_between_ages_is_not_inflated_by_noise():
    estimator = PersistentES(20, 5, 2, 0.1)
    many = sampled(estimator, LinearQuadratic(), jnp.array(LQ_THETA), keys_of(KEY, 4000))
    groups = [many._replace(gradients=many.gradients[i : i + 8]).between for i in range(0, 4000, 8)]
    between = lq_variances(5, 5)[2] * SQUARE
    assert abs(np.mean(groups) - between) <= 4 * np.std(groups) / np.sqrt(len(groups))
    assert (
        np.mean([np.var(many.gradients[i : i + 8].mean(axis=0), axis=0).sum() for i in range(0, 4000, 8)]) > 2 * between
    )


def test_smoothing_is_what_the_third_derivative_makes_of_it():
    """One noise for life: E (t (θ + ε))³ = (tθ)³ + 3 t³ θ σ²; the gradient is off by 3 t³ σ²."""
    horizon, std, theta = 4, 0.3, jnp.array(0.5)
    estimator = FullES(horizon, 32, std)
    case = Case(Cubic(), theta, Backprop(Lifetimes.of(estimator)))
    parts = bias(estimator, case, KEY, answers(estimator, case, KEY, 200))
    smoothing = np.mean([3 * t**3 * std**2 for t in range(1, horizon + 1)])
    assert covers(parts.smoothing, (0.99 * smoothing) ** 2)  # less what is left at σ / 10
    assert covers(parts.total, smoothing**2)
    assert parts.smoothing.low > 0.6 * smoothing**2
    assert parts.truncation is None


def test_sampling_bias_of_policy_gradients_is_the_enumerated_one():
    problem, theta = Bandit(2, 2), jnp.log(2.0)
    expected = jax.jit(jax.value_and_grad(problem.expected))(theta)
    np.testing.assert_allclose(expected, [-0.6394600251, -0.1876142933], atol=1e-9)
    estimator = TruncatedBackprop(2, 2, 500)
    case = Case(problem, theta, Exact(problem.expected), pathwise=Backprop(Lifetimes.of(estimator)))
    parts = bias(estimator, case, KEY, answers(estimator, case, KEY, 32))
    assert covers(parts.sampling, 0.0180**2)
    assert covers(parts.total, 0.0180**2)
    assert abs(parts.truncation.point) < 1e-25  # the same lives: not a bit of noise
    strategy = FullES(2, 500, 0.1)
    parts = bias(strategy, case, KEY, answers(strategy, case, KEY, 32))
    assert parts.sampling is None
    assert covers(parts.total, 0.0)


@dataclass(frozen=True)
class Bootstrapped:
    """The ramp, judged by a critic that is wrong by a factor."""

    wrong: float

    def start(self, theta, key):
        return jnp.zeros_like(theta)

    def advance(self, theta, life, key):
        return life + theta, Segment(self.wrong * (life + theta), {})


def test_bootstrapping_is_measured_against_the_problem_without():
    estimator, theta = TruncatedBackprop(4, 1, 2), jnp.array(0.3)
    truth = Backprop(Lifetimes.of(estimator))
    case = Case(Bootstrapped(1.5), theta, truth, ideal=(Ramp(), truth))
    parts = bias(estimator, case, KEY, answers(estimator, case, KEY, 2))
    # Gradients of the mean loss: 1.5 · 1 in windows of one segment, 1.5 · 2.5 whole, 2.5 ideal.
    np.testing.assert_allclose([parts.total.point, parts.truncation.point], [1.0, 2.25**2], rtol=1e-12)
    np.testing.assert_allclose(parts.bootstrap.point, 1.25**2, rtol=1e-12)


def test_hysteresis_of_a_sensitivity_that_theta_left_behind():
    """Ramp: RTRL's estimate is 2.5 whatever theta was. Cubed, a life remembers where theta had been."""

    @dataclass(frozen=True)
    class Cubed:
        def start(self, theta, key):
            return jnp.zeros_like(theta)

        def advance(self, theta, life, key):
            life = life + theta
            return life, Segment(life**3, {})

    theta, step, horizon = jnp.array(1.0), 0.1, 4
    t = np.arange(1, horizon + 1)
    lost = step * t * (t - 1) / 2  # s_t = t θ - δ (0 + 1 + ... + (t - 1)), and d/dθ s_t³ = 3 s_t² t
    for problem, expected in ((Ramp(), 0.0), (Cubed(), np.mean(3 * t * ((t - lost) ** 2 - t**2)))):
        estimator = RTRL(horizon, 1, 4)
        case = Case(problem, theta, Backprop(Lifetimes.of(estimator)))
        parts = bias(estimator, case, KEY, answers(estimator, case, KEY, 4), velocity=jnp.array(step))
        np.testing.assert_allclose(parts.hysteresis.point, expected**2, rtol=1e-10, atol=1e-20)
    lone = changed(estimator, lives=1, stagger=False)
    parts = bias(lone, case, KEY, answers(lone, case, KEY, 400), velocity=jnp.array(step))
    assert covers(parts.hysteresis, expected**2)
    assert parts.hysteresis.low > 0
    whole = TruncatedBackprop(horizon, horizon, 2)
    assert bias(whole, case, KEY, answers(whole, case, KEY, 2), velocity=jnp.array(step)).hysteresis is None


class Noisy:
    """θ at birth and in every segment, noise in both."""

    def start(self, theta, key):
        return theta[0] + 0.3 * jax.random.normal(key, (2,))

    def advance(self, theta, life, key):
        life = jnp.tanh(theta[1] * life + 0.3 * jax.random.normal(key, (2,)))
        return life, Segment(jnp.sum(life**2), {})


@pytest.mark.parametrize(("horizon", "window"), [(6, 6), (6, 2), (6, 1), (5, 3)])
def test_the_truth_lives_the_very_lives_of_the_estimates(horizon, window):
    """RTRL is exact at fixed theta: so it must be matched to the last digit, births inside of windows included."""
    theta, keys = jnp.array([0.4, 0.7]), keys_of(KEY, 3)
    estimator = RTRL(horizon, window, 3)
    said = sampled(estimator, Noisy(), theta, keys).means
    lifetimes = Lifetimes.of(estimator)
    np.testing.assert_allclose(said, truths(Backprop(lifetimes), Noisy(), theta, keys), atol=1e-12)
    differences = truths(FiniteDifferences(lifetimes, 1e-4), Noisy(), theta, keys)
    np.testing.assert_allclose(said, differences, atol=1e-7)


def test_antithetic_pairs_are_matched_pair_by_pair():
    estimator, theta = NoiseReuseES(6, 2, 2, 1e-5), jnp.array([0.4, 0.7])
    said = sampled(estimator, Noisy(), theta, keys_of(KEY, 64)).means
    truth = truths(Backprop(Lifetimes.of(estimator)), Noisy(), theta, keys_of(KEY, 64))
    # ĝ = ε (ε·g) / σ²: regress the length along the own truth, which is E ĝ given the life.
    along = np.sum(said * truth, axis=1) / np.sum(truth**2, axis=1)
    assert np.all(along > -1e-6)  # (ε·g)² is never negative: only the own life's truth has that


def test_the_smoothed_truth_and_the_exact_one():
    problem, theta = NoisyQuadratic(20), jnp.array([-1.0, -1.0])
    exact = truths(Exact(problem.expected), problem, theta, keys_of(KEY, 2))
    np.testing.assert_allclose(exact[0], jax.grad(problem.terminal)(theta) / 20, rtol=1e-12)
    paths = truths(Backprop(Lifetimes(20, 20, 64)), problem, theta, keys_of(KEY, 100))
    assert covers(squared_norm(paths - exact[0]), 0.0)
    smooth = truths(Smoothed(20, 128, 0.01), problem, theta, keys_of(KEY, 100))
    assert covers(squared_norm(smooth - exact[0]), 0.0, slack=1e-4 * np.sum(exact[0] ** 2))


def test_toggles_reach_settings_inside_of_settings():
    nested = ControlVariateES(NoiseReuseES(6, 2, 6, 0.1))
    assert found(nested, "std") == 0.1
    assert changed(nested, std=0.2, stagger=False).base == NoiseReuseES(6, 2, 6, 0.2, stagger=False)
    tail = WienerTruncation(6, 3, 4, ResidualES(0.1))
    assert changed(tail, std=0.3).tail.std == 0.3
    assert found(TruncatedBackprop(6, 2, 4), "std") is None
    assert changed(TruncatedBackprop(6, 2, 4), std=0.3) == TruncatedBackprop(6, 2, 4)
    with pytest.raises(ValueError, match="window=7"):
        changed(nested, window=7)


def test_lags_of_influence_balancing():
    """θ that acted k segments ago moves s[0] by c_{k+1} - c_k, with the wrong sign up to lag 9."""
    problem, theta, horizon = Influence(steady=True), jnp.array(0.5), 8
    a, b = problem.matrices()
    effect = np.array([np.linalg.matrix_power(np.asarray(a), k)[0] @ np.asarray(b) for k in range(horizon)])
    # In the steady state every loss has the slope s[0] - 1 = -4; lag k occurs in horizon - k of the losses.
    lag = -4 * effect * (horizon - np.arange(horizon)) / horizon
    blocks = np.array([lag[0], lag[1], lag[2:4].sum(), lag[4:].sum()])
    spectrum = lag_spectrum(problem, theta, horizon, 2, KEY)
    assert spectrum.lags == (0, 1, 2, 4)
    np.testing.assert_allclose(spectrum.signal, blocks[:, None] * blocks[None], rtol=1e-9)
    np.testing.assert_allclose(spectrum.contribution, blocks / blocks.sum(), rtol=1e-9)
    np.testing.assert_allclose(spectrum.noise, 0, atol=1e-9)


@pytest.mark.parametrize("mean", [0.9, 0.5])
def test_lags_of_kestens_loop_with_their_noise(mean):
    problem, lives = Kesten(mean, 0.3, 8), 4000
    spectrum = lag_spectrum(problem, jnp.zeros(1), 8, lives, KEY)
    j = np.arange(8)
    square = mean**2 + 0.3**2
    covariance = mean ** np.abs(j[:, None] - j) * square ** np.minimum(j[:, None], j) - mean ** (j[:, None] + j)
    member = np.array([[lag in block for lag in j] for block in ([0], [1], [2, 3], [4, 5, 6, 7])], float)
    signal, noise = (mean**j) @ member.T / 8, member @ covariance @ member.T / 64
    error = np.sqrt(noise.diagonal() / lives)
    np.testing.assert_allclose(spectrum.noise, noise, rtol=0.15, atol=1e-12)
    assert np.all(np.abs(spectrum.signal.diagonal() - signal**2) <= 4 * (2 * signal * error + error**2) + 1e-12)
    total = np.cumsum(signal)
    left = (total[-1] - np.concatenate([[0], total[:-1]])) ** 2 / total[-1] ** 2
    assert spectrum.reach() == ([*spectrum.lags, 8])[int(np.argmax(left <= 0.01)) if np.any(left <= 0.01) else 4]
    assert np.all(np.diff(spectrum.eigenvalues) <= 0)
    np.testing.assert_allclose(spectrum.eigenvalues[0], signal @ signal, rtol=0.05)  # one direction: rank one


@dataclass(frozen=True)
class Linear:
    rates: tuple

    def start(self, theta, key):
        return jnp.ones(len(self.rates)), jnp.array(0)

    def advance(self, theta, life, key):
        return (jnp.array(self.rates) * life[0], life[1] + 1), Segment(jnp.sum(life[0]), {})


class Logistic:
    """x' = 4 x (1 - x): λ = log 2."""

    def start(self, theta, key):
        return jnp.sin(jnp.pi / 2 * jax.random.uniform(key)) ** 2

    def advance(self, theta, life, key):
        return 4 * life * (1 - life), Segment(life, {})


class Tent:
    """x' = 1 - |1 - 2 x|: every difference doubles."""

    def start(self, theta, key):
        return jax.random.uniform(key)

    def advance(self, theta, life, key):
        return 1 - jnp.abs(1 - 2 * life), Segment(life, {})


def test_growth_of_maps_with_known_exponents():
    linear = stability(Linear((0.5, 1.1)), (), 60, 4, KEY, 3)
    np.testing.assert_allclose(linear.lyapunov.point, np.log(1.1), atol=0.03)  # less the transient of 1/60
    np.testing.assert_allclose(linear.by_age[-10:], np.log(1.1), rtol=1e-6)
    np.testing.assert_allclose(linear.second_moment.point, 1.21, rtol=0.06)
    tent = stability(Tent(), (), 20, 8, KEY, 3)
    np.testing.assert_allclose([tent.lyapunov.point, tent.second_moment.point], [np.log(2), 4], rtol=1e-12)
    logistic = stability(Logistic(), (), 30, 500, KEY, 6)
    assert covers(logistic.lyapunov, np.log(2))
    assert logistic.lyapunov.high - logistic.lyapunov.low < 0.02


class Fates:
    """Half of all lives shrink by 1/2 in every segment, the others grow by 3/2."""

    def start(self, theta, key):
        return {"s": jnp.ones(()), "fast": jax.random.bernoulli(key)}

    def advance(self, theta, life, key):
        s = jnp.where(life["fast"], 1.5, 0.5) * life["s"]
        return life | {"s": s}, Segment(s, {})


def test_second_moments_belong_to_the_lives_that_grow():
    measured = stability(Fates(), (), 20, 2000, KEY, 8)
    np.testing.assert_allclose(measured.lyapunov.point, np.log(0.75) / 2, atol=0.02)
    np.testing.assert_allclose(measured.second_moment.point, ((2.25**20 + 0.25**20) / 2) ** 0.05, rtol=4e-3)


def test_second_moments_explode_where_the_lyapunov_exponent_says_stable():
    measured = stability(Kesten(0.9, 0.45), jnp.zeros(1), 64, 1000, KEY, 8)
    assert covers(measured.second_moment, 1.0125)
    assert measured.second_moment.high - measured.second_moment.low < 0.02
    z = np.random.default_rng(0).normal(size=10**6)
    np.testing.assert_allclose(np.mean(np.log(np.abs(0.9 + 0.45 * z))), -0.278, atol=2e-3)
    assert covers(measured.lyapunov, -0.278, slack=2e-3)


@dataclass(frozen=True)
class Components:
    """L = θ (a task + b Σ inner): derivatives with known parts, and nothing that θ carries over."""

    task: float
    inner: float

    def start(self, theta, key):
        return self.task * jax.random.normal(key)

    def advance(self, theta, life, key):
        return life, Segment(jnp.sum(theta) * (1 + life + self.inner * jax.random.normal(key)), {})


def test_variance_by_source():
    horizon, problem, theta = 4, Components(0.7, 1.2), jnp.zeros(3)
    parts = attribution(TruncatedBackprop(horizon, 2, 8), problem, theta, KEY, 600, 3, 2)
    # θ has three coordinates with the same derivative; inner noise is averaged over four segments.
    expected = {"perturbation": 0.0, "inner": 3 * 1.2**2 / 4, "task": 3 * 0.7**2}
    for name, value in expected.items():
        assert covers(getattr(parts, name), value, slack=1e-12), name
    assert parts.task.high - parts.task.low < 1
    # One pair of ES: given (a, b), ĝ = ε (ε·g) / σ² has (P + 1) ‖g‖²; its mean, g, varies as that of backprop.
    parts = attribution(FullES(horizon, 8, 0.1), problem, theta, KEY, 600, 3, 3)
    expected["perturbation"] = 4 * 3 * (1 + 0.7**2 + 1.2**2 / 4)
    for name, value in expected.items():
        assert covers(getattr(parts, name), value, slack=0.1 * value), name
    assert attribution(ControlVariateES(NoiseReuseES(4, 2, 6, 0.1)), problem, theta, KEY) is None


def test_the_parts_add_up_to_the_variance_of_lifetimes():
    estimator, problem, theta = PersistentES(6, 2, 2, 0.1), Noisy(), jnp.array([0.4, 0.7])
    parts = attribution(estimator, problem, theta, KEY, 400, 2, 3)
    means = sampled(estimator, problem, theta, keys_of(jax.random.key(1), 3000)).means
    total = means.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(sum(part.point for part in parts), total, rtol=0.15)


def test_diagnostics_in_batches_and_for_thetas_of_many_leaves():
    class Tree(Ramp):
        def advance(self, theta, life, key):
            return super().advance(theta["a"] * theta["b"][0], life, key)

        def start(self, theta, key):
            return super().start(theta["a"], key)

    theta = {"a": jnp.array(2.0), "b": jnp.array([0.5, 1.0])}
    estimator = LagBackprop(4, 4, 2, Geometric(1.0))
    whole = sampled(estimator, Tree(), theta, keys_of(KEY, 5))
    batched = sampled(estimator, Tree(), theta, keys_of(KEY, 5), batch=2)
    np.testing.assert_allclose(whole.means, np.tile([2.5 * 0.5, 2.5 * 2.0, 0], (5, 1)), rtol=1e-12)
    np.testing.assert_allclose(batched.gradients, whole.gradients, rtol=1e-12)
    case = Case(Inherited(), jnp.array(0.3), Backprop(Lifetimes(4, 2, 2)))
    said = answers(TruncatedBackprop(4, 2, 2), case, KEY, 2)
    np.testing.assert_allclose(said.truths, 1)
    np.testing.assert_allclose(said.estimates.means, 0.5)  # the windows without the birth see nothing
