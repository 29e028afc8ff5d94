import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import Ramp, consecutive
from truncation import FullES, NoiseReuseES, PersistentES, TruncatedBackprop, TruncatedES
from truncation.schedule import Schedule


@pytest.mark.parametrize(("horizon", "window", "lives"), [(12, 3, 8), (7, 3, 6), (10, 1, 10), (10, 10, 3), (20, 5, 2)])
def test_a_staggered_life_of_some_age_has_really_lived_it(horizon, window, lives):
    theta, problem = jnp.array(0.3), Ramp(spread=1.0)
    state = TruncatedBackprop(horizon, window, lives).init(problem, theta, jax.random.key(0))
    if horizon == window:
        assert state is None
        return
    ages = np.asarray(state.age)
    due = ages == horizon  # age 0: to be born at the next head
    np.testing.assert_array_equal(np.asarray(state.life["lived"])[~due], ages[~due])
    np.testing.assert_allclose((state.life["level"] - state.life["origin"])[~due], 0.3 * ages[~due], rtol=1e-5)
    slots = -(-horizon // window)
    expected = [life * slots // lives * window for life in range(lives)]
    np.testing.assert_array_equal(ages % horizon if horizon % window == 0 else np.where(due, 0, ages), expected)


@pytest.mark.parametrize("stagger", [False, True])
@pytest.mark.parametrize(("horizon", "window"), [(6, 2), (7, 3), (5, 4)])
def test_lives_end_at_the_horizon_whatever_the_window(horizon, window, stagger):
    # `lived` is counted by the life, `age` by the schedule; they can only agree if births happen where they are due.
    estimator = TruncatedBackprop(horizon, window, 5, stagger=stagger)
    problem, key = Ramp(), jax.random.key(1)
    estimate = jax.jit(lambda state, key: estimator.estimate(problem, jnp.array(0.3), state, key))
    state = estimator.init(problem, jnp.array(0.3), key)
    ages = np.where(np.asarray(state.age) == horizon, 0, state.age)
    for number in range(2 * horizon):
        result, state = estimate(state, jax.random.fold_in(key, number))
        positions = [[(age + s) % horizon + 1 for s in range(window)] for age in ages]
        np.testing.assert_allclose(result.loss, 0.3 * np.mean(positions), rtol=1e-5)
        ages = (ages + window) % horizon
        np.testing.assert_array_equal(np.asarray(state.age) % horizon, ages)
        np.testing.assert_array_equal(state.life["lived"], state.age)


def test_lock_step_begins_with_newborn_lives():
    _, _, estimates = consecutive(
        TruncatedBackprop(6, 2, 3, stagger=False), Ramp(), jnp.array(1.0), jax.random.key(0), 4
    )
    np.testing.assert_allclose(estimates.loss, [1.5, 3.5, 5.5, 1.5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule(0, 1), r"horizon=0: a lifetime has at least 1"),
        (lambda: TruncatedBackprop(10, 11, 1), r"window=11 is not in \[1, horizon\] = \[1, 10\]"),
        (lambda: TruncatedBackprop(10, 0, 1), r"window=0"),
        (lambda: TruncatedBackprop(10, 5, 0), r"lives=0"),
        (lambda: TruncatedBackprop(10, 5, 10, microbatch=4), r"microbatch=4 does not cut 10 .* nearest that do: 2, 5"),
        (lambda: TruncatedBackprop(10, 5, 10, microbatch=-1), r"microbatch=-1"),
        (lambda: TruncatedBackprop(10, 5, 1, clip=0.0), r"clip=0.0"),
        (lambda: FullES(10, 3, 0.1), r"lives=3: .* even"),
        (lambda: FullES(10, 12, 0.1, microbatch=3), r"microbatch=3 does not cut 12 .* nearest that do: 2, 4"),
        (lambda: TruncatedES(10, 5, 4, 0.0), r"std=0.0 is not positive"),
        (lambda: PersistentES(10, 5, 4, float("nan")), r"std=nan is not positive"),
        (lambda: NoiseReuseES(10, 20, 4, 0.1), r"window=20"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_parts_of_a_window_have_their_shares():
    np.testing.assert_allclose(Schedule(7, 3).shares(jnp.int32(6)), [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(Schedule(7, 3).shares(jnp.int32(7)), [0, 1])
    np.testing.assert_allclose(Schedule(7, 3).shares(jnp.int32(3)), [1, 0])
    np.testing.assert_allclose(Schedule(6, 3).shares(jnp.int32(3)), [1])
    np.testing.assert_allclose(Schedule(6, 6).shares(None), [1])
