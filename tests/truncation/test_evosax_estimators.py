"""evosax's strategies as estimators: what they are unbiased for, and the traps that are closed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import LQ_GRADIENT, LQ_THETA, Fragile, LinearQuadratic, consecutive, replicate
from tests.truncation.test_evolution import assert_mean
from truncation import Segment
from truncation.evosax_estimators import EvosaxGradient


@pytest.mark.parametrize(
    "estimator",
    [
        EvosaxGradient("Open_ES", 20, 20, 20, 0.5),
        EvosaxGradient("PersistentES", 20, 5, 20, 0.5),
        EvosaxGradient("NoiseReuseES", 20, 5, 20, 0.5),
    ],
    ids=lambda e: e.strategy,
)
def test_they_are_unbiased(estimator):
    theta, windows = jnp.array(LQ_THETA, jnp.float32), estimator.horizon // estimator.window
    assert_mean(replicate(estimator, LinearQuadratic(), theta, jax.random.key(0), windows, 2000), LQ_GRADIENT)


class Plane:
    """L = g·θ, so that the matrix of guided evolution strategies can be read off."""

    def start(self, theta, key):
        return ()

    def advance(self, theta, life, key):
        return life, Segment(jnp.sum(jnp.array([3.0, 1.0]) * theta), {})


@pytest.mark.parametrize("lives", [8, 16])
def test_guided_es_has_its_matrix_whatever_the_population(lives):
    # Without a guide, evosax's subspace is the first axis: α/n I + (1 - α) e e' = diag(3/4, 1/4) for n = 2.
    estimator = EvosaxGradient("GuidedES", 1, 1, lives, 0.1)
    samples = replicate(estimator, Plane(), jnp.zeros(2), jax.random.key(2), 1, 4000)
    assert_mean(samples, [2.25, 0.25])


def test_guided_es_is_guided_by_its_last_estimate():
    _, last, estimates = consecutive(
        EvosaxGradient("GuidedES", 1, 1, 8, 0.1), Plane(), jnp.zeros(2), jax.random.key(3), 2
    )
    np.testing.assert_allclose(last.strategy.grad, estimates.gradient[-1], rtol=1e-6)
    np.testing.assert_allclose(last.strategy.grad_subspace[:, -1], estimates.gradient[0], rtol=1e-6)


@pytest.mark.parametrize("strategy", ["PersistentES", "NoiseReuseES"])
def test_broken_pairs_are_masked_and_counted(strategy):
    settings = EvosaxGradient(strategy, 4, 2, 40, 0.5)
    run = jax.jit(lambda: consecutive(settings, Fragile(lambda c: c > 0.6), jnp.array([0.7]), jax.random.key(3), 8)[2])
    estimates = run()
    assert np.all(np.isfinite(estimates.gradient))
    assert 0.2 < np.mean(estimates.metrics["dead"]) < 0.6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvosaxGradient("CMA_ES", 4, 2, 4, 0.1), "strategy='CMA_ES' is none .* Open_ES, GuidedES, "),
        (lambda: EvosaxGradient("Open_ES", 4, 2, 4, 0.1), "window=2: Open_ES lives whole lifetimes; nearest: 4"),
        (lambda: EvosaxGradient("PersistentES", 12, 5, 4, 0.1), "window=5 does not divide horizon=12; nearest: 4"),
        (lambda: EvosaxGradient("PersistentES", 4, 2, 3, 0.1), "lives=3"),
        (lambda: EvosaxGradient("PersistentES", 4, 2, 4, -1.0), "std=-1.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
