import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import (
    LQ_LOSS,
    LQ_THETA,
    LQ_TRUNCATED,
    Chain,
    Influence,
    Inherited,
    LinearQuadratic,
    Ramp,
    consecutive,
    mean_gradient,
)
from truncation import TruncatedBackprop


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(("window", "remat"), [(1, False), (5, True), (10, False), (20, False), (20, True)])
def test_windows_of_lq20_have_their_published_gradients(window, remat):
    theta, key = jnp.array(LQ_THETA), jax.random.key(0)
    in_turn = TruncatedBackprop(20, window, lives=1, stagger=False, remat=remat)
    side_by_side = TruncatedBackprop(20, window, lives=20 // window, stagger=True, remat=remat)
    _, _, estimates = jax.jit(lambda: consecutive(in_turn, LinearQuadratic(), theta, key, 20 // window))()
    np.testing.assert_allclose(np.mean(estimates.gradient, axis=0), LQ_TRUNCATED[window], atol=1e-8)
    np.testing.assert_allclose(np.mean(estimates.loss), LQ_LOSS, atol=1e-8)
    np.testing.assert_allclose(
        mean_gradient(side_by_side, LinearQuadratic(), theta, key), LQ_TRUNCATED[window], atol=1e-8
    )


@pytest.mark.parametrize(
    ("steps", "sensitivity"),
    [(1, 1), (10, 10), (20, 16.476), (40, 0.56554), (41, -0.21899), (50, -4.7527), (60, -5.8967), (100, -5.99999998)],
)
def test_influence_balancing_turns_the_sign_at_41_steps(steps, sensitivity):
    estimator = TruncatedBackprop(10**6, 1, lives=1, stagger=False)
    gradient = mean_gradient(estimator, Influence(steps, steady=True), jnp.array(0.5), jax.random.key(0))
    np.testing.assert_allclose(gradient, -4 * sensitivity, rtol=3e-5)


def test_windows_that_do_not_divide_the_horizon_lose_what_theory_says():
    # Over 7 windows of 3 segments a life of 7 is cut at every phase; segment t is credited back to the head of its
    # window or to its birth, whichever is later.
    credited = [min(t % 7, t % 3) + 1 for t in range(21)]
    estimator = TruncatedBackprop(7, 3, lives=1, stagger=False)
    gradient = mean_gradient(estimator, Ramp(spread=1.0), jnp.array(0.3), jax.random.key(1), estimates=7)
    np.testing.assert_allclose(gradient, np.mean(credited), atol=1e-12)


@pytest.mark.parametrize(("horizon", "window"), [(12, 12), (12, 3), (7, 3)])
def test_a_birth_is_differentiated_within_its_window(horizon, window):
    estimator = TruncatedBackprop(horizon, window, lives=1, stagger=False)
    gradient = mean_gradient(estimator, Inherited(), jnp.array(0.3), jax.random.key(1), estimates=horizon)
    seen = [t % horizon <= t % window for t in range(horizon * window)]
    np.testing.assert_allclose(gradient, np.mean(seen), atol=1e-12)


@pytest.mark.parametrize("window", [1, 7, 13, 16])
def test_remat_changes_no_gradient(window):
    theta, problem = jnp.array(0.7), Chain(width=5)
    plain, remat = (
        mean_gradient(TruncatedBackprop(16, window, 3, remat=on), problem, theta, jax.random.key(2), 3)
        for on in (False, True)
    )
    np.testing.assert_allclose(remat, plain, rtol=1e-12)


def test_remat_makes_memory_grow_with_the_square_root_of_the_window():
    def peak(window, remat):
        estimator = TruncatedBackprop(window, window, lives=1, remat=remat)
        estimate = jax.jit(lambda theta, key: estimator.estimate(Chain(width=10_000), theta, None, key)[0].gradient)
        return estimate.lower(jnp.array(0.7), jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes

    plain, remat = ([peak(window, on) for window in (16, 256)] for on in (False, True))
    assert plain[1] / plain[0] > 10  # 16 times the window
    assert remat[1] / remat[0] < 5  # its square root, 4
    assert remat[1] < plain[1] / 5


def test_clip_bounds_the_gradient_of_each_life():
    clipped = TruncatedBackprop(20, 20, lives=2, clip=0.5)
    theta = jnp.array(LQ_THETA)
    gradient = mean_gradient(clipped, LinearQuadratic(), theta, jax.random.key(0))
    direction = LQ_TRUNCATED[20] / np.linalg.norm(LQ_TRUNCATED[20])
    np.testing.assert_allclose(gradient, 0.5 * direction, atol=1e-10)
    loose = TruncatedBackprop(20, 20, lives=2, clip=1e6)
    np.testing.assert_allclose(
        mean_gradient(loose, LinearQuadratic(), theta, jax.random.key(0)), LQ_TRUNCATED[20], atol=1e-8
    )
