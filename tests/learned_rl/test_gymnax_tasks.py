"""Every environment steps; endings, hidden variables and units mean what `TimeStep` and `TaskFamily` say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.gymnax_tasks import GymnaxFamily, environment_ids
from learned_rl.rollout import restart
from learned_rl.samplers import Constant, IntegersIn, LogUniform, SpikeAt, Uniform
from learned_rl.types import Continuous, Discrete, TaskFamily


def actions_like(tasks, key, shape=()):
    if isinstance(tasks.actions, Discrete):
        return jax.random.randint(key, shape, 0, tasks.actions.count)
    return jax.random.uniform(key, (*shape, tasks.actions.size), minval=-1.0)


def live(tasks, steps, streams, key):
    """`steps` random steps of `streams` streams in one task: `(task, states, TimeSteps)`, states before each step."""
    key_task, key_reset, key_steps = jax.random.split(key, 3)
    task = tasks.draw(key_task)
    env, _ = jax.vmap(tasks.reset, in_axes=(None, 0))(task, jax.random.split(key_reset, streams))

    def step(env, key):
        key_act, key_env, key_reset = jax.random.split(key, 3)
        action = actions_like(tasks, key_act, (streams,))
        following, out = jax.vmap(tasks.step, in_axes=(None, 0, 0, 0))(
            task, env, action, jax.random.split(key_env, streams)
        )
        fresh, _ = jax.vmap(tasks.reset, in_axes=(None, 0))(task, jax.random.split(key_reset, streams))
        return restart(out.last, fresh, following), (env, out)

    states, out = jax.lax.scan(step, env, jax.random.split(key_steps, steps))[1]
    return task, states, out


@pytest.mark.parametrize("name", environment_ids())
def test_every_environment_steps_under_jit_vmap_and_scan(name):
    tasks = families.fixed(name)
    assert isinstance(tasks, TaskFamily)
    _, _, out = jax.jit(live, static_argnums=(0, 1, 2))(tasks, 4, 2, jax.random.key(0))
    assert out.next_obs.shape == (4, 2, *tasks.obs_shape)
    assert out.reward.shape == out.discount.shape == out.last.shape == (4, 2)
    assert {out.next_obs.dtype, out.reward.dtype, out.discount.dtype} == {np.dtype("float32")}
    assert out.last.dtype == bool
    assert all(jnp.all(jnp.isfinite(x)) for x in (out.next_obs, out.reward))
    assert not np.any((out.discount == 0) & ~out.last)


def test_at_a_time_limit_cartpole_is_cut_and_not_terminated():
    tasks = families.fixed("CartPole-v1")
    task = tasks.draw(jax.random.key(0))
    state, _ = tasks.reset(task, jax.random.key(1))
    step = jax.jit(tasks.step)
    _, before = step(task, state.replace(time=jnp.asarray(498)), 0, jax.random.key(2))
    assert (bool(before.last), float(before.discount)) == (False, 1.0)
    beyond, at = step(task, state.replace(time=jnp.asarray(499)), 0, jax.random.key(2))
    assert (bool(at.last), float(at.discount)) == (True, 1.0)
    # The step itself goes on: the pole was pushed left.
    np.testing.assert_array_equal(at.next_obs, before.next_obs)
    assert at.next_obs[1] < -0.1
    assert beyond.time == 500
    _, out = step(task, state.replace(theta=jnp.asarray(0.5)), 0, jax.random.key(2))
    assert (bool(out.last), float(out.discount)) == (True, 0.0)
    assert out.next_obs[2] > 0.4


def test_where_both_flags_are_raised_the_episode_terminated():
    _, _, out = jax.jit(live, static_argnums=(0, 1, 2))(families.deep_sea(4), 12, 3, jax.random.key(0))
    assert out.last.sum() == 3 * 3
    np.testing.assert_array_equal(out.discount, 1.0 - out.last)


HIDDEN = [
    families.bernoulli_bandit(),
    families.gaussian_bandit(),
    families.simple_bandit(),
    families.discounting_chain(),
    families.point_robot(),
    families.reacher(),
    families.meta_maze(),
    families.four_rooms(),
    families.deep_sea(4),
]


@pytest.mark.parametrize("tasks", HIDDEN, ids=lambda tasks: tasks.name)
def test_hidden_variables_are_fixed_for_a_life_and_differ_between_lives(tasks):
    """Episodes are ended by force where the environment's own are long: by its time limit."""
    limit = tasks._made[1].max_steps_in_episode
    short = GymnaxFamily(
        tasks.env_id,
        tasks.options,
        (*tasks.vary, ("max_steps_in_episode", Constant(min(5, limit)))),
        hidden=tasks.hidden,
    )
    lives = jax.jit(jax.vmap(lambda key: live(short, 24, 2, key)))(jax.random.split(jax.random.key(0), 8))
    task, states, out = lives
    assert out.last.sum() > 8 * 2 * 3
    for field, _ in tasks.hidden:
        seen = np.asarray(getattr(states, field))  # [life, step, stream, ...]
        np.testing.assert_array_equal(seen, np.broadcast_to(seen[:, :1, :1], seen.shape), err_msg=field)
        np.testing.assert_array_equal(seen[:, 0, 0], task.hidden[field], err_msg=field)
        assert len(np.unique(seen[:, 0, 0].reshape(8, -1), axis=0)) > 1, f"{field} is the same in every life"


def test_without_hidden_variables_gymnax_would_redraw_the_task():
    """The reason for `hidden`: if this stops holding, the machinery can go."""
    tasks = families.fixed("PointRobot-misc")
    task = tasks.draw(jax.random.key(0))
    goals = [tasks.reset(task, jax.random.key(k))[0].goal for k in range(4)]
    assert len(np.unique(goals, axis=0)) == 4


def test_the_first_observation_is_of_the_hidden_task():
    tasks = GymnaxFamily("MetaMaze-misc", hidden=(("goal", None),))
    task = tasks.draw(jax.random.key(0))
    state, _ = tasks.reset(task, jax.random.key(5))
    np.testing.assert_array_equal(state.goal, task.hidden["goal"])


@functools.cache
def drawn(tasks):
    """The parameters of 200 lives."""
    return jax.jit(jax.vmap(tasks.draw))(jax.random.split(jax.random.key(0), 200)).params


def test_parameters_are_the_same_in_all_episodes_and_differ_between_lives():
    draws = drawn(families.cartpole())
    for field, usual in (("masscart", 1.0), ("masspole", 0.1), ("length", 0.5), ("force_mag", 10.0)):
        factors = np.asarray(getattr(draws, field)) / usual
        assert 0.5 <= factors.min() < 0.55
        assert 1.85 < factors.max() < 2.0
        assert abs(np.log(factors).mean()) < 5 * np.log(2) / 3**0.5 / 200**0.5  # log-uniform around 1


def test_what_gymnax_derives_from_masses_follows_them():
    draws = drawn(families.cartpole())
    np.testing.assert_allclose(draws.total_mass, draws.masscart + draws.masspole, rtol=1e-6)
    np.testing.assert_allclose(draws.polemass_length, draws.masspole * draws.length, rtol=1e-6)


def test_the_shifted_family_is_disjoint():
    here, there = drawn(families.cartpole()), drawn(families.cartpole_shifted())
    assert families.cartpole().name != families.cartpole_shifted().name
    for field in ("masscart", "masspole", "length", "force_mag"):
        assert getattr(here, field).max() < getattr(there, field).min()


def test_actions_are_in_units_of_half_the_range_and_clipped():
    tasks = families.fixed("MountainCarContinuous-v0")
    assert tasks.actions == Continuous(1, (-1.0,), (1.0,))
    pendulum = families.fixed("Pendulum-v1")
    assert pendulum.actions == Continuous(1, (-2.0,), (2.0,))
    decode = pendulum._decode
    np.testing.assert_allclose(
        [decode(jnp.array([a]))[0] for a in (-9.0, -1.0, 0.0, 0.5, 1.0, 9.0)], [-2, -2, 0, 1, 2, 2]
    )
    task = pendulum.draw(jax.random.key(0))
    state, _ = pendulum.reset(task, jax.random.key(1))
    at = [pendulum.step(task, state, jnp.array([a]), jax.random.key(2))[1] for a in (1.0, 7.0, -1.0)]
    np.testing.assert_array_equal(at[0].next_obs, at[1].next_obs)
    assert at[0].next_obs[2] > at[2].next_obs[2]  # torque to the other side


def test_an_unknown_environment_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"unknown environment 'CartPole'; nearest: .*CartPole-v1"):
        _ = families.fixed("CartPole").actions


def test_an_environment_that_downloads_is_refused():
    assert "MNISTBandit-bsuite" not in environment_ids()
    with pytest.raises(ValueError, match="downloads"):
        _ = families.fixed("MNISTBandit-bsuite").actions


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="no parameter 'mass'"):
        GymnaxFamily("CartPole-v1", vary=(("mass", Uniform(0, 1)),)).draw(jax.random.key(0))
    with pytest.raises(ValueError, match="no state variable 'goal'"):
        GymnaxFamily("CartPole-v1", hidden=(("goal", None),)).draw(jax.random.key(0))


@pytest.mark.parametrize(
    ("sampler", "low", "high"),
    [(Uniform(2.0, 3.0), 2.0, 3.0), (LogUniform(0.1, 10.0), 0.1, 10.0), (IntegersIn(2, 4), 2, 4), (Constant(5), 5, 5)],
)
def test_samplers_stay_in_range_and_reach_it(sampler, low, high):
    draws = np.asarray(jax.vmap(sampler)(jax.random.split(jax.random.key(0), 500)))
    assert draws.min() >= low
    assert draws.max() <= high
    if isinstance(sampler, IntegersIn):
        assert set(draws.tolist()) == {2, 3, 4}


def test_a_spike_stands_anywhere_once():
    draws = np.asarray(jax.vmap(SpikeAt(4, 7.0))(jax.random.split(jax.random.key(0), 100)))
    assert set(draws.argmax(1)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(np.sort(draws, axis=1), np.tile([1, 1, 1, 7], (100, 1)))
