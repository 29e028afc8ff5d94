"""Families of optional libraries keep the contract; without the library, it is said which one is missing."""

import importlib.util
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families, libraries
from learned_rl.brax_tasks import BraxFamily, Physics
from learned_rl.craftax_tasks import CraftaxFamily
from learned_rl.jaxmarl_tasks import JaxMARLFamily
from learned_rl.ranges import describe, overlap
from learned_rl.rollout import restart
from learned_rl.samplers import Constant, IntegersIn
from learned_rl.types import TaskFamily

KEY = jax.random.key(0)


def needs(library):
    found = importlib.util.find_spec(library)
    return pytest.mark.skipif(not found, reason=f"{library} is not installed; it is the extra `{library}`")


def live(tasks, steps, streams, key):
    """`steps` random steps of `streams` streams in one task: `(task, TimeSteps)`, with resets."""
    key_task, key_reset, key_steps = jax.random.split(key, 3)
    task = tasks.draw(key_task)

    def begin(key):
        return jax.vmap(tasks.reset, (None, 0))(task, jax.random.split(key, streams))

    def step(env, key):
        key_act, key_env, key_reset = jax.random.split(key, 3)
        if hasattr(tasks.actions, "count"):
            action = jax.random.randint(key_act, (streams,), 0, tasks.actions.count)
        else:
            action = jax.random.uniform(key_act, (streams, tasks.actions.size), minval=-1.0)
        keys = jax.random.split(key_env, streams)
        following, out = jax.vmap(tasks.step, (None, 0, 0, 0))(task, env, action, keys)
        return restart(out.last, begin(key_reset)[0], following), out

    return task, jax.lax.scan(step, begin(key_reset)[0], jax.random.split(key_steps, steps))[1]


@pytest.mark.parametrize("library", ["brax", "craftax", "jaxmarl", "navix", "xminigrid"])
def test_a_library_that_is_missing_is_named_with_what_installs_it(library, monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(libraries.importlib, "import_module", fail)
    with pytest.raises(ValueError, match=rf"need {library}.*learned-rl\[{library}\]"):
        libraries.library(library, library)


def test_bodies_are_compared_by_their_physics():
    usual, light, heavy = (describe(families.locomotion("ant", *f)) for f in ((), (0.7, 0.9), (1.1, 1.5)))
    assert overlap(usual, light) is overlap(usual, heavy) is overlap(light, heavy) is None
    assert overlap(describe(families.locomotion("ant", 0.8, 1.2)), usual)["mass"] == {"is": 1.0}
    assert overlap(usual, describe(families.locomotion("hopper"))) is None


def test_impossible_bodies_are_refused():
    with pytest.raises(ValueError, match="backend"):
        BraxFamily("ant", "mjx")


@needs("brax")
def test_brax_steps_in_units_of_its_actions_and_terminates_and_is_cut():
    tasks = replace(families.locomotion("inverted_pendulum", 0.5, 2.0, backend="generalized"), length=20)
    assert isinstance(tasks, TaskFamily)
    task, out = jax.jit(live, static_argnums=(0, 1, 2))(tasks, 60, 4, KEY)
    assert out.next_obs.shape == (60, 4, *tasks.obs_shape)
    assert all(np.isfinite(x).all() for x in (out.next_obs, out.reward))
    fell = np.abs(out.next_obs[..., 1]) > 0.2
    np.testing.assert_array_equal(out.discount, 1.0 - fell)
    assert fell.any()
    assert (np.asarray(out.last) & ~fell).any()
    assert not (fell & ~out.last).any()
    assert all(0.5 <= factor < 2.0 for factor in task)
    assert len({float(factor) for factor in task}) == 3
    with pytest.raises(ValueError, match="no environment 'dog'; it has ant"):
        _ = families.locomotion("dog").obs_shape


@needs("brax")
def test_the_physics_of_a_task_are_those_that_it_steps_with():
    tasks = families.locomotion("inverted_pendulum", backend="generalized")
    one = jnp.ones(())

    @jax.jit
    def push(task, size):
        state, _ = tasks.reset(task, KEY)

        def step(state, _):
            state, out = tasks.step(task, state, size * jnp.ones(1), KEY)
            return state, out.next_obs

        return jax.lax.scan(step, state, length=4)[1]

    usual, twice = push(Physics(one, one, one), 0.5), push(Physics(one, one, 2 * one), 0.25)
    np.testing.assert_allclose(usual, twice, atol=1e-5)  # half the push of motors of twice the strength
    heavy = push(Physics(one, 2 * one, one), 0.5)
    np.testing.assert_allclose(usual[0, 2:], 2 * heavy[0, 2:], rtol=0.05)  # but for friction, and where it began
    weightless = push(Physics(0 * one, one, one), 0.5)
    assert np.abs(usual - weightless).max() > 1e-4
    np.testing.assert_array_equal(push(Physics(one, one, one), 1.0), push(Physics(one, one, one), 7.0))  # clipped


@needs("navix")
@pytest.mark.parametrize("name", ["Empty-Random-5x5", "Dynamic-Obstacles-5x5-Random"])
def test_navix_keeps_its_floor_plan_for_a_life_and_ends_as_it_says(name):
    tasks = families.minigrid(name)
    assert isinstance(tasks, TaskFamily)
    _, out = jax.jit(live, static_argnums=(0, 1, 2))(tasks, 300, 4, KEY)
    seen = np.asarray(out.next_obs)
    assert seen.shape == (300, 4, *tasks.obs_shape)
    assert (seen[..., :11].sum(-1) == 1).all()
    goals = seen[..., 8].reshape(1200, -1)
    assert len(np.unique(goals[goals.any(axis=1)], axis=0)) == 1  # where it is to be seen, it is where it was
    assert out.last.any()
    assert not ((np.asarray(out.discount) == 0) & ~np.asarray(out.last)).any()
    assert set(np.unique(np.asarray(out.reward)[np.asarray(out.discount) == 1])) == {0}
    first = [np.asarray(tasks.reset(tasks.draw(jax.random.key(k)), KEY)[1]) for k in range(6)]
    assert len(np.unique(np.stack(first), axis=0)) > 1
    with pytest.raises(ValueError, match="no environment 'Navix-Full-v0'"):
        _ = families.minigrid("Full").obs_shape


def test_impossible_worlds_are_refused():
    with pytest.raises(ValueError, match="depth and distractors at least 0 and few"):
        families.xland(depth=40)


@needs("xminigrid")
def test_rulesets_stay_for_a_life_and_the_goal_is_what_their_chain_makes():
    tasks = families.xland(depth=1)
    assert isinstance(tasks, TaskFamily)
    drawn = [tasks.draw(jax.random.key(k)) for k in range(40)]
    assert all(len(np.unique(np.concatenate([t.init_tiles, t.goal[None, 1:3]]), axis=0)) == 5 for t in drawn)
    assert all(t.init_tiles.shape == (4, 2) for t in drawn)  # what is to be made does not lie there
    assert not any((t.init_tiles == t.goal[1:3]).all(axis=1).any() for t in drawn)
    assert {int(t.rules[0, 0]) for t in drawn} == {1, 2, 3}
    assert {int(t.goal[0]) for t in drawn} == {1, 3}
    for goal, rule in ((t.goal, t.rules[0]) for t in drawn):
        np.testing.assert_array_equal(goal[1:3], rule[5:7] if rule[0] == 3 else rule[3:5])
    _, out = jax.jit(live, static_argnums=(0, 1, 2))(families.xland(depth=0), 400, 16, KEY)
    reached, last = np.asarray(out.discount) == 0, np.asarray(out.last)
    assert out.next_obs.shape == (400, 16, *tasks.obs_shape)
    assert reached.any()
    assert (last & ~reached).any()
    assert not (reached & ~last).any()
    assert (np.asarray(out.reward) > 0)[reached].all()
    assert (np.asarray(out.reward) == 0)[~reached].all()
    with pytest.raises(ValueError, match="no environment 'XLand-MiniGrid-R3-9x9'; it has XLand-MiniGrid-R1-9x9"):
        _ = families.xland(rooms=3).obs_shape


@needs("xminigrid")
def test_what_is_picked_up_becomes_what_the_rule_says_and_that_is_the_goal():
    tasks = families.xland(depth=1)
    tile = jnp.array([[3, 1], [5, 2]], jnp.uint8)  # a red ball becomes a green pyramid
    task = tasks.draw(KEY)
    rule = jnp.array([[1, *tile[0], *tile[1], 0, 0]], jnp.uint8)
    task = task.replace(goal=jnp.array([1, *tile[1], 0, 0], jnp.uint8), rules=rule)
    state, _ = tasks.reset(task, KEY)
    grid = state.state.grid.at[4, 4].set(jnp.array([1, 7], jnp.uint8)).at[3, 4].set(tile[0])
    agent = state.state.agent.replace(position=jnp.array([4, 4]), direction=jnp.zeros((), jnp.int32))
    state = state.replace(state=state.state.replace(grid=grid, agent=agent))
    _, out = tasks.step(task, state, jnp.asarray(3), KEY)
    assert (out.discount, out.last) == (0, True)
    assert out.reward == pytest.approx(1 - 0.9 / 80)
    elsewhere = state.replace(state=state.state.replace(goal_encoding=task.goal.at[2].set(3)))
    _, other = tasks.step(task, elsewhere, jnp.asarray(3), KEY)
    assert (other.discount, other.last, other.reward) == (1, False, 0)


def test_games_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="no game 'Craftax-Pixels-v1' here; there are Craftax-Classic"):
        CraftaxFamily("Craftax-Pixels-v1")


@needs("craftax")
def test_craftax_keeps_its_world_for_a_life_and_death_is_not_the_time_limit():
    tasks = CraftaxFamily(vary=(("max_timesteps", Constant(40)), ("day_length", IntegersIn(100, 200))))
    assert isinstance(tasks, TaskFamily)
    task, out = jax.jit(live, static_argnums=(0, 1, 2))(tasks, 200, 4, KEY)
    assert out.next_obs.shape == (200, 4, *tasks.obs_shape)
    last, over = np.asarray(out.last), np.asarray(out.discount) == 0
    assert last.any(axis=0).all()
    assert not (over & ~last).any()
    assert (last & ~over).any()  # cut
    assert 100 <= task.params.day_length <= 200
    again, _ = tasks.reset(task, jax.random.key(9))
    np.testing.assert_array_equal(again.map, task.begin.map)  # the same world in every episode
    other = tasks.draw(jax.random.key(9))
    assert np.any(other.begin.map != task.begin.map)
    hurt = task.begin.replace(player_health=jnp.zeros((), jnp.int32), timestep=jnp.zeros((), jnp.int32))
    _, dead = jax.jit(tasks.step)(task, hurt, 0, KEY)
    assert (dead.discount, dead.last) == (0, True)
    assert describe(tasks)["ranges"]["day_length"] == {"from": 100, "to": 200}
    with pytest.raises(ValueError, match="no parameter 'dragons'; it has"):
        CraftaxFamily(vary=(("dragons", Constant(1)),)).draw(KEY)


@needs("jaxmarl")
def test_others_learn_while_a_meeting_lasts_and_begin_the_next_as_they_were_born():
    tasks = JaxMARLFamily("MPE_simple_spread_v3", Constant(0.2), rounds=2)
    assert isinstance(tasks, TaskFamily)
    task = tasks.draw(KEY)
    begun, obs = tasks.reset(task, KEY)
    assert obs.shape == tasks.obs_shape == (18,)
    assert begun.seen.shape == (2, 18)

    @jax.jit
    def meet(task):
        def step(state, key):
            state, out = tasks.step(task, state, jax.random.randint(key, (), 0, 5), key)
            return state, (state.partners, state.rounds, out)

        return jax.lax.scan(step, begun, jax.random.split(KEY, 60))[1]

    partners, rounds, out = meet(task)
    length = int(np.argmax(rounds >= 1)) + 1  # of a round
    assert np.flatnonzero(out.last)[0] == 2 * length - 1
    np.testing.assert_array_equal(out.discount, 1.0 - out.last)
    first, later = partners.policy[0], partners.policy[2 * length - 2]
    assert np.abs(later - first).max() > 1e-3
    assert np.abs(later[0] - later[1]).max() > 0.1  # each has a mind of its own
    still, _, _ = meet(task._replace(rate=jnp.zeros(())))
    np.testing.assert_array_equal(still.policy[-1], task.partners.policy)
    again, _ = tasks.reset(task, jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, again.partners, task.partners)
    with pytest.raises(ValueError, match="no game 'chess'; it has"):
        _ = JaxMARLFamily("chess").obs_shape
    with pytest.raises(ValueError, match="roles 0 to 2, not 3"):
        _ = JaxMARLFamily("MPE_simple_spread_v3", role=3).obs_shape
