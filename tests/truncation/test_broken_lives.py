"""Lives that break down are masked, counted and reborn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import Fragile
from truncation import (
    RTRL,
    UORO,
    ForwardGradient,
    FullES,
    LagBackprop,
    NoiseReuseES,
    PersistentES,
    ResidualES,
    Sliding,
    TruncatedBackprop,
    TruncatedES,
    WienerTruncation,
)

THETA = jnp.array(0.7, jnp.float32)


def hard(task):
    return task > 0.6


ESTIMATORS = [
    TruncatedBackprop(4, 4, 32),
    TruncatedBackprop(5, 2, 32, remat=True),
    FullES(4, 32, 0.5),
    TruncatedES(4, 2, 32, 0.5),
    PersistentES(5, 2, 32, 0.5),
    NoiseReuseES(5, 2, 32, 0.5),
    LagBackprop(5, 2, 32, Sliding(2)),
    WienerTruncation(6, 2, 32, ResidualES(0.5)),
    RTRL(5, 2, 32),
    UORO(5, 2, 32),
    ForwardGradient(5, 2, 32),
]


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_the_update_is_that_without_the_broken_lives(value):
    # The tasks are what the estimator says they are: a healthy twin with the same keys reports them life by life.
    estimator, key = TruncatedBackprop(4, 4, 32), jax.random.key(0)
    broken, _ = estimator.estimate(Fragile(hard, value=value), THETA, None, key)
    tasks = np.array([float(Fragile(hard).start(THETA, k)["task"]) for k in birth_keys(key, 32, 4)])
    kept = tasks[tasks <= 0.6]
    assert 0 < len(kept) < 32
    np.testing.assert_allclose(broken.gradient, 0.7 * np.mean(kept**2), rtol=1e-5)
    np.testing.assert_allclose(broken.loss, 0.5 * 0.49 * np.mean(kept**2), rtol=1e-5)
    np.testing.assert_allclose(broken.metrics["task"], np.mean(kept), rtol=1e-5)
    np.testing.assert_allclose(broken.metrics["dead"], 1 - len(kept) / 32, rtol=1e-6)


def birth_keys(key, lives, window):
    return [jax.random.fold_in(jax.random.fold_in(key, life), window) for life in range(lives)]


def test_broken_pairs_leave_the_gradient_of_the_others():
    # Quadratic and σ-exact: over finite pairs E ĝ = θ E[c² | c <= 0.6] = 0.7 * 0.12.
    n = 100_000
    broken, _ = jax.jit(lambda: FullES(2, 2 * n, 0.5).estimate(Fragile(hard), THETA, None, jax.random.key(1)))()
    np.testing.assert_allclose(broken.metrics["dead"], 0.4, atol=4 * np.sqrt(0.24 / n))
    np.testing.assert_allclose(broken.gradient, 0.7 * 0.12, atol=4 * np.sqrt(3 * 0.49 * 0.6**4 / 5 / (0.6 * n)))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_broken_lives_are_reborn_and_if_all_are_broken_the_estimate_says_so(estimator):
    def run(breaks_above):
        problem = Fragile(lambda task: task >= breaks_above)
        state = jax.jit(lambda key: estimator.init(problem, THETA, key))(jax.random.key(3))
        estimate = jax.jit(lambda state, key: estimator.estimate(problem, THETA, state, key))
        for number in range(12):
            result, state = estimate(state, jax.random.key(number))
            yield result

    # A life that breaks at its second segment is replaced by one that does so with probability 0.4.
    some = list(run(0.6))
    assert all(np.isfinite(x) for x in jax.tree.leaves(some))
    assert 0.15 < np.mean([result.metrics["dead"] for result in some]) < 0.6

    for result in run(-1.0):  # every life, in the first window that reaches its second segment
        assert float(result.gradient) == 0.0
        assert float(result.metrics["dead"]) == 1.0
        assert np.isnan(result.loss)  # there is no mean, and a zero would look like a success


@pytest.mark.parametrize("kind", [TruncatedBackprop, PersistentES])
def test_a_broken_life_is_due_at_once(kind):
    estimator = kind(8, 2, 64, *[0.5] * (kind is PersistentES), stagger=False)
    state = estimator.init(Fragile(hard), THETA, jax.random.key(5))
    result, state = estimator.estimate(Fragile(hard), THETA, state, jax.random.key(6))
    age = state.age if kind is TruncatedBackprop else state.lived.age
    np.testing.assert_allclose(np.mean(np.asarray(age) == 8), result.metrics["dead"], rtol=1e-6)
    assert np.mean(np.asarray(age) == 2) == np.mean(np.asarray(age) != 8)


def test_a_life_with_a_broken_gradient_but_a_finite_loss_is_masked():
    class Root(Fragile):
        def advance(self, theta, life, key):
            life, segment = super().advance(theta, life, key)
            return life, segment._replace(loss=segment.loss + jnp.sqrt(jnp.maximum(0.5 - life["task"], 0) * theta))

    # √x has no derivative at 0, where the easier half of the tasks is exempt from the penalty.
    estimate, _ = TruncatedBackprop(4, 4, 64).estimate(Root(lambda task: task < 0), THETA, None, jax.random.key(4))
    assert np.isfinite(estimate.gradient)
    assert np.isfinite(estimate.loss)
    assert 0.3 < float(estimate.metrics["dead"]) < 0.7
