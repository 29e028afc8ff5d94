"""Defects that public code has and ours must not get. Others of the kind are tested where they belong:

terminal loss, empty history at a birth, the life that truncated ES carries, births that are perturbed with their own
noise, noise that is credited to its own lifetime: `test_evolution`; ages that were really lived: `test_schedule`; masks
and division by their number, members that break: `test_learned_optimization` and `test_evosax_estimators`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import LQ_GRADIENT, LQ_THETA, LinearQuadratic, Ramp, Terminal, consecutive, replicate
from tests.truncation.test_evolution import assert_mean
from truncation import (
    AnalyticPES,
    ControlVariateES,
    FullES,
    GeneralizedPES,
    NoiseReuseES,
    PersistentES,
    RunningMean,
    TruncatedES,
)
from truncation.evosax_estimators import EvosaxGradient


@pytest.mark.parametrize("estimator", [PersistentES(3, 1, 200, 0.5, stagger=False), NoiseReuseES(3, 1, 200, 0.5)])
def test_windows_of_one_segment_have_no_empty_ones_and_no_nan(estimator):
    # Where a birth is a masked step of its own, a window of one is 0 / 0 in every lifetime (learned_optimization).
    run = jax.jit(lambda: consecutive(estimator, Terminal(3), jnp.array(0.3), jax.random.key(0), 300)[2])
    estimates = run()
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(estimates))
    assert_mean(np.asarray(estimates.gradient).reshape(100, 3).mean(axis=1), 1.0)


@pytest.mark.parametrize(
    "estimator",
    [
        TruncatedES(6, 2, 6, 0.1),
        PersistentES(6, 2, 6, 0.1),
        NoiseReuseES(6, 2, 6, 0.1),
        GeneralizedPES(6, 2, 6, 0.1, 4),
        FullES(6, 6, 0.1),
        AnalyticPES(6, 2, 6, 0.1),
        EvosaxGradient("PersistentES", 6, 2, 6, 0.1),
    ],
)
def test_std_cannot_change_under_accumulated_noise(estimator):
    # evosax's std schedules divide old noise by the new variance. A setting cannot be changed, nor be a function.
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimator.std = 0.2
    with pytest.raises(TypeError):
        dataclasses.replace(estimator, std=lambda step: 0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda lives: PersistentES(20, 5, lives, 0.5),
        lambda lives: NoiseReuseES(20, 5, lives, 0.5),
        lambda lives: ControlVariateES(FullES(20, lives, 0.5), RunningMean()),
        lambda lives: AnalyticPES(20, 5, lives, 0.1),
    ],
    ids=["PES", "NRES", "control variate", "analytic"],
)
def test_twice_the_population_has_the_same_mean_and_half_the_variance(make):
    # evosax's guided ES adds up over pairs.
    n = 4000
    with jax.enable_x64(True):
        few, many = (
            replicate(make(lives), LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(lives), 1, n)
            for lives in (8, 16)
        )
    assert_mean(few, LQ_GRADIENT)
    assert_mean(many, LQ_GRADIENT)
    np.testing.assert_allclose(many.var(axis=0).sum() / few.var(axis=0).sum(), 0.5, rtol=0.2)


def test_a_shaping_sees_both_lifetimes_of_a_window_apart():
    # One sign for a window with a birth in it (learned_optimization) credits one lifetime with the other's losses.
    seen = []

    def spy(losses, valid):
        seen.append((losses.shape, valid.shape))
        return jnp.sign(losses - losses[:, ::-1])

    settings = PersistentES(7, 3, 400, 0.5, stagger=False, shaping=spy)
    _, _, estimates = consecutive(settings, Ramp(), jnp.array(0.3), jax.random.key(0), 3)
    assert set(seen) == {((400, 2), (400,))}  # two rows a pair: of the old lifetime and of the new
    # Third window, segments 6 | 0 1: E ξ sign(ξ)-like credits, never of a row that has no segment.
    assert np.all(np.asarray(estimates.gradient) > 0)
