"""Noise blocks between one window and one lifetime: exact limits, and the variance of every length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import (
    LQ_GRADIENT,
    LQ_THETA,
    LQ_VARIANCE,
    LinearQuadratic,
    Ramp,
    consecutive,
    lq_variances,
    replicate,
)
from truncation import GeneralizedPES, NoiseReuseES, PersistentES


@pytest.mark.parametrize(("horizon", "window", "stagger"), [(6, 2, True), (7, 3, True), (8, 3, False)])
def test_its_ends_are_persistent_es_and_noise_reuse_es(horizon, window, stagger):
    settings = (horizon, window, 8, 0.1)
    assert 3 * window >= horizon

    def gradients(estimator):
        return consecutive(estimator, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(0), 9)[2].gradient

    with jax.enable_x64(True):
        shortest, persistent, longest, reuse = jax.jit(
            lambda: [
                gradients(GeneralizedPES(*settings, window, stagger)),
                gradients(PersistentES(*settings, stagger)),
                gradients(GeneralizedPES(*settings, 3 * window, stagger)),
                gradients(NoiseReuseES(*settings, stagger)),
            ]
        )()
    # The draws are the same; compilers may order the arithmetic differently.
    np.testing.assert_allclose(shortest, persistent, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(longest, reuse, rtol=1e-12, atol=1e-12)
    assert np.max(np.abs(persistent - reuse)) > 0.01


def test_noise_changes_when_a_block_is_over_and_at_births_and_nowhere_else():
    # Windows of a lifetime 0 1 2 3 4 | 0 ...; blocks of two windows.
    settings = GeneralizedPES(10, 2, 4, 0.5, block=4, stagger=False)
    estimate = jax.jit(lambda state, key: settings.estimate(Ramp(), jnp.array(0.3), state, key)[1])
    state, drawn = settings.init(Ramp(), jnp.array(0.3), jax.random.key(9)), []
    for number in range(11):
        before, state = state.trace.key, estimate(state, jax.random.key(number))
        if np.all(np.any(before != state.trace.key, axis=1)):
            drawn.append(number)
    assert drawn == [0, 2, 4, 5, 7, 9, 10]


def test_the_closed_forms_are_the_published_ones():
    with jax.enable_x64(True):
        for block, published in LQ_VARIANCE.items():
            np.testing.assert_allclose(lq_variances(1, block)[0], published, atol=6e-5)
        for block, published in {5: 5.99, 10: 5.62, 20: 4.71}.items():
            np.testing.assert_allclose(sum(lq_variances(5, block)[1:]), published, atol=0.006)


@pytest.mark.parametrize(("window", "block"), [(1, 2), (2, 4), (5, 10)])
def test_lifetimes_in_lock_step_have_the_closed_form_mean_and_variance(window, block):
    n = 40_000
    with jax.enable_x64(True):
        expected = lq_variances(window, block)[0]
        settings = GeneralizedPES(20, window, 2, 0.5, block, stagger=False)
        key = jax.random.key(block)
        samples = replicate(settings, LinearQuadratic(), jnp.array(LQ_THETA), key, 20 // window, n)
    square = np.sum(LQ_GRADIENT**2)
    assert np.linalg.norm(samples.mean(axis=0) - LQ_GRADIENT) < 4 * np.sqrt(expected * square / n)
    np.testing.assert_allclose(samples.var(axis=0).sum() / square, expected, rtol=0.05)


@pytest.mark.parametrize("block", [5, 10, 20])
def test_windows_of_lives_out_of_step_have_the_closed_form_mean_and_variance(block):
    # Four pairs, one of every age: what is left of the variance is that within windows, which is what falls with block.
    n = 60_000
    with jax.enable_x64(True):
        _, within, _ = lq_variances(5, block)
        settings = GeneralizedPES(20, 5, 8, 0.5, block)
        samples = replicate(settings, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(block), 1, n)
    square = np.sum(LQ_GRADIENT**2)
    assert np.linalg.norm(samples.mean(axis=0) - LQ_GRADIENT) < 4 * np.sqrt(within / 4 * square / n)
    np.testing.assert_allclose(4 * samples.var(axis=0).sum() / square, within, rtol=0.05)


@pytest.mark.parametrize(("block", "nearest"), [(4, "nearest: 3 or 6"), (1, "nearest: 3"), (0, "nearest: 3")])
def test_blocks_that_are_no_windows_are_refused(block, nearest):
    with pytest.raises(ValueError, match=f"block={block} is not a multiple of window=3; {nearest}"):
        GeneralizedPES(12, 3, 4, 0.1, block)
