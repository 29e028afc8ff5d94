"""Implicit differentiation on a ridge regression, and the inverse-variance combination."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import LQ_GRADIENT, LQ_THETA, Fragile, LinearQuadratic, replicate
from truncation import (
    ForwardGradient,
    FullES,
    ImplicitBackprop,
    InverseVariance,
    Krylov,
    Neumann,
    Segment,
    TruncatedBackprop,
)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@dataclass(frozen=True)
class Ridge:
    """Gradient descent on ‖Xv - y‖² / 16 + e^θ ‖v‖² / 2, judged by ‖X'v - y'‖² / 12."""

    rate: float = 1.2219866768643923  # one over the largest curvature

    def start(self, theta, key):
        return {"v": jnp.zeros(3), "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta, life, key):
        i, j = jnp.arange(1.0, 9)[:, None], jnp.arange(1.0, 4)[None]
        x, y = jnp.sin(1 + i * j), jnp.cos(i[:, 0])
        held, target = jnp.cos(2 + i[:6] * j), jnp.sin(i[:6, 0])
        v = life["v"] - self.rate * (x.T @ (x @ life["v"] - y) / 8 + jnp.exp(theta) * life["v"])
        return {"v": v, "lived": life["lived"] + 1}, Segment(jnp.sum((held @ v - target) ** 2) / 12, {})


THETA = float(np.log(0.3))
GRADIENT, LOSS = -0.1254003611, 0.5386646103


def of_ridge(solve):
    estimator = ImplicitBackprop(200, 2, solve)
    return jax.jit(lambda theta: estimator.estimate(Ridge(), theta, None, jax.random.key(0))[0])(jnp.array(THETA))


def test_implicit_gradients_are_the_published_ones():
    estimate = of_ridge(Krylov(tolerance=1e-12))
    np.testing.assert_allclose(estimate.loss, LOSS, atol=1e-10)
    np.testing.assert_allclose(estimate.gradient, GRADIENT, atol=1e-10)


# The segment of the loss is one term; the solver adds those before it.
@pytest.mark.parametrize(("length", "published"), [(1, 2.0e-2), (2, 4.7e-3), (5, 3.3e-4), (10, 4.0e-6)])
def test_a_neumann_series_has_the_published_bias(length, published):
    bias = abs(of_ridge(Neumann(length - 1)).gradient / GRADIENT - 1)
    np.testing.assert_allclose(bias, published, rtol=0.02)


def test_a_neumann_series_is_truncated_backprop_at_the_fixed_point():
    settled = jax.lax.fori_loop(
        0, 200, lambda _, life: Ridge().advance(THETA, life, None)[0], Ridge().start(THETA, None)
    )

    def unrolled(theta):
        _, report = jax.lax.scan(lambda life, _: Ridge().advance(theta, life, None), settled, length=4)
        return report.loss[-1]

    expected = jax.jit(jax.grad(unrolled))(jnp.array(THETA))
    np.testing.assert_allclose(of_ridge(Neumann(3)).gradient, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["general", "shift", "expansion", "restarted"])
def test_krylov_spaces_solve_what_no_series_does(kind):
    n, random = 8, np.random.default_rng(0)
    matrix = {
        "general": random.normal(size=(n, n)),
        "shift": np.eye(n) - np.roll(np.eye(n), 1, axis=0),  # nothing is gained before the last of n directions
        "expansion": -3 * np.eye(n),  # solved after one direction; the others are empty
        "restarted": 0.3 * random.normal(size=(n, n)) / np.sqrt(n),
    }[kind]
    solve = Krylov(1e-12, restart=4, repeats=20) if kind == "restarted" else Krylov(1e-12)
    right = {"a": jnp.asarray(random.normal(size=3)), "b": jnp.asarray(random.normal(size=(5, 1)))}

    def pull(adjoint):
        out = matrix.T @ jnp.concatenate([adjoint["a"], adjoint["b"][:, 0]])
        return {"a": out[:3], "b": out[3:, None]}

    found = jax.jit(lambda right: solve(pull, right))(right)
    left = jax.tree.map(lambda x, y, b: np.abs(x - y - b).max(), found, pull(found), right)
    assert max(left.values()) < 1e-11


def test_dead_lives_are_counted():
    estimator, problem = ImplicitBackprop(3, 64, Neumann(2)), Fragile(lambda task: task > 0.6)
    estimate = jax.jit(lambda key: estimator.estimate(problem, jnp.array(0.7), None, key)[0])(jax.random.key(0))
    assert np.isfinite(estimate.gradient)
    assert 0.2 < float(estimate.metrics["dead"]) < 0.6


NOISY = InverseVariance((FullES(20, 2, 0.5), ForwardGradient(20, 20, 8)))


def test_the_combination_is_unbiased_and_better_than_its_parts():
    n, estimates = 4000, 40

    # Variances in units of ‖G‖²: 4 for one pair, 4 / 8 for eight directions; combined 4 / 9.
    def last(key):
        theta, state = jnp.array(LQ_THETA), NOISY.init(LinearQuadratic(), jnp.array(LQ_THETA), key)

        def step(state, number):
            estimate, after = NOISY.estimate(LinearQuadratic(), theta, state, jax.random.fold_in(key, number))
            return after, (estimate.gradient, NOISY.weights(state))

        return jax.tree.map(lambda x: x[-1], jax.lax.scan(step, state, jnp.arange(estimates))[1])

    samples, weights = jax.jit(jax.vmap(last))(jax.random.split(jax.random.key(0), n))
    error = samples.std(axis=0, ddof=1) / np.sqrt(n)
    assert np.all(np.abs(samples.mean(axis=0) - LQ_GRADIENT) <= 4 * error)
    assert samples.var(axis=0).sum() / np.sum(LQ_GRADIENT**2) < 0.6
    assert 0.8 < np.median(weights[:, 1]) < 0.95
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_weights_are_those_of_the_past():
    theta = jnp.array(LQ_THETA)
    state = NOISY.init(LinearQuadratic(), theta, jax.random.key(0))
    np.testing.assert_allclose(NOISY.weights(state), 0.5)

    @jax.jit
    def mixed_and_parts(key):
        parts = [
            part.estimate(LinearQuadratic(), theta, None, jax.random.fold_in(key, n))[0].gradient
            for n, part in enumerate(NOISY.parts)
        ]
        return *NOISY.estimate(LinearQuadratic(), theta, state, key), parts

    estimate, after, parts = mixed_and_parts(jax.random.key(1))
    np.testing.assert_allclose(estimate.gradient, (parts[0] + parts[1]) / 2)
    np.testing.assert_allclose(after.gram / after.mass, np.stack(parts) @ np.stack(parts).T)


def test_exact_parts_stay_exact():
    exact = InverseVariance((TruncatedBackprop(20, 20, 1), TruncatedBackprop(20, 20, 2)))
    samples = replicate(exact, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(0), 5, 1)
    np.testing.assert_allclose(samples[0], LQ_GRADIENT, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Neumann(-1), "terms=-1 is negative"),
        (lambda: InverseVariance((FullES(2, 2, 0.1),)), "at least 2"),
        (lambda: InverseVariance((FullES(2, 2, 0.1),) * 2, memory=1.0), "memory=1.0"),
        (lambda: ImplicitBackprop(3, 0), "lives=0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
