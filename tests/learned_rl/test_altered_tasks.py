"""Altered tasks: at equal keys they are the unaltered ones, but for the alteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.altered_tasks import (
    Altered,
    Distracted,
    DuplicatedActions,
    PaidOtherwise,
    PermutedObservations,
    inverted,
)
from learned_rl.few_shot_tasks import TabularMDP
from learned_rl.goal_tasks import GoalGrid, Navigation
from learned_rl.rooms import RandomABC
from learned_rl.types import Discrete, TaskFamily
from tests.probes import MatchCue

GRID = GoalGrid(3, 6)


def walk(tasks, actions, seed=0):
    """Task, observations and steps of an episode."""

    @jax.jit
    def run(key):
        key_task, key = jax.random.split(key)
        task = tasks.draw(key_task)
        state, first = tasks.reset(task, key)

        def step(state, inputs):
            return tasks.step(task, state, *inputs)

        keys = jax.random.split(key, len(actions))
        _, out = jax.lax.scan(step, state, (jnp.asarray(actions), keys))
        return task, jnp.concatenate([first[None], out.next_obs]), out

    return run(jax.random.key(seed))


ACTIONS = [3, 2, 2, 3, 0, 1]


def test_rewards_are_scaled_and_shifted_and_nothing_else_changes():
    _, obs, out = walk(GRID, ACTIONS)
    _, same, paid = walk(PaidOtherwise(GRID, scale=10.0, shift=-2.0), ACTIONS)
    np.testing.assert_array_equal(same, obs)
    np.testing.assert_allclose(paid.reward, 10 * out.reward - 2)
    np.testing.assert_array_equal(paid.last, out.last)
    np.testing.assert_array_equal(paid.discount, out.discount)
    assert len(np.unique(out.reward)) == 2  # the goal was met
    np.testing.assert_array_equal(walk(inverted(GRID), ACTIONS)[2].reward, -out.reward)
    assert paid.reward.dtype == jnp.float32


def test_observations_are_permuted_in_one_way_a_life_and_in_another_in_the_next():
    orders = []
    for seed in range(3):
        _, obs, out = walk(GRID, ACTIONS, seed)
        task, permuted, same = walk(PermutedObservations(GRID), ACTIONS, seed)
        np.testing.assert_array_equal(same.reward, out.reward)  # the same hidden goal
        orders.append(np.asarray(task.order))
        assert sorted(orders[-1]) == list(range(9))
        np.testing.assert_array_equal(permuted, np.asarray(obs)[:, orders[-1]])
    assert not np.array_equal(orders[0], orders[1])


def test_permutation_keeps_the_shape_of_images():
    rooms = RandomABC(5, 6)
    assert len(rooms.obs_shape) > 1 or rooms.obs_shape[0] > 1
    task, permuted, _ = walk(PermutedObservations(rooms), ACTIONS[:3])
    _, obs, _ = walk(rooms, ACTIONS[:3])
    assert permuted.shape == obs.shape
    np.testing.assert_array_equal(permuted.reshape(4, -1), np.asarray(obs).reshape(4, -1)[:, np.asarray(task.order)])


def test_every_action_is_there_several_times():
    tasks = DuplicatedActions(GRID, copies=3)
    assert tasks.actions == Discrete(15)
    _, obs, out = walk(GRID, ACTIONS)
    for offset in (0, 5, 10):
        _, same, paid = walk(tasks, [a + offset for a in ACTIONS])
        np.testing.assert_array_equal(same, obs)
        np.testing.assert_array_equal(paid.reward, out.reward)


def test_distractions_are_beside_what_was_seen_normal_and_new_in_every_step():
    tasks = Distracted(TabularMDP(), extra=400)
    _, obs, out = walk(TabularMDP(), [0] * 9)
    _, seen, same = walk(tasks, [0] * 9)
    n = int(np.prod(TabularMDP().obs_shape))
    assert tasks.obs_shape == (n + 400,) == seen.shape[1:]
    np.testing.assert_array_equal(seen[:, :n], np.asarray(obs).reshape(10, -1))
    np.testing.assert_array_equal(same.reward, out.reward)
    noise = np.asarray(seen[:, n:])
    assert len(np.unique(noise)) == noise.size
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_alterations_nest_and_have_names_of_their_own():
    nested = DuplicatedActions(Distracted(PermutedObservations(inverted(GRID)), 2), 2)
    assert isinstance(nested, TaskFamily)
    assert nested.name == "GoalGrid-3x3-reward-x-1-permuted-distracted-2-actions-x2"
    assert PaidOtherwise(GRID, shift=1.5).name == "GoalGrid-3x3-reward+1.5"
    assert PaidOtherwise(GRID).name == Altered(GRID).name == GRID.name
    assert len({nested, DuplicatedActions(nested.tasks, 2)}) == 1  # settings like any other
    _, obs, out = walk(nested, ACTIONS)
    assert obs.shape == (7, 11)
    np.testing.assert_array_equal(out.reward, -walk(GRID, ACTIONS)[2].reward)


def test_what_cannot_be_altered_is_refused():
    with pytest.raises(ValueError, match="nothing to learn"):
        PaidOtherwise(GRID, scale=0.0)
    with pytest.raises(ValueError, match="the actions of Navigation are continuous"):
        DuplicatedActions(Navigation())
    with pytest.raises(ValueError, match="copies=0"):
        DuplicatedActions(MatchCue(), 0)
    with pytest.raises(ValueError, match="extra=0"):
        Distracted(MatchCue(), 0)
