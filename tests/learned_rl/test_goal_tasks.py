"""Hidden goals: the tasks by hand, and the oracles by brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.goal_tasks import GoalGrid, Navigation, Place
from learned_rl.types import TaskFamily
from tests.goal_oracles import (
    BAYES_OPTIMAL,
    MOVES,
    NEVER,
    BayesOptimal,
    neighbours,
    posterior_sampling,
    straight_return,
)

KEY = jax.random.key(0)
STAY, UP, RIGHT, DOWN, LEFT = range(5)


def played(tasks, task, actions):
    """One episode: every `TimeStep`, stacked."""

    def step(state, action):
        return tasks.step(task, state, action, KEY)

    return jax.jit(lambda actions: jax.lax.scan(step, tasks.reset(task, KEY)[0], actions)[1])(jnp.asarray(actions))


@pytest.mark.parametrize("tasks", [families.navigation(), families.goal_grid()])
def test_they_are_task_families_without_weak_types(tasks):
    assert isinstance(tasks, TaskFamily)
    task = jax.eval_shape(tasks.draw, KEY)
    state, obs = jax.eval_shape(tasks.reset, task, KEY)
    action = jnp.zeros(2) if isinstance(tasks, Navigation) else jnp.zeros((), jnp.int32)
    after, out = jax.eval_shape(tasks.step, task, state, action, KEY)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert not any(x.weak_type for x in jax.tree.leaves((task, state, obs, after, out)))
    assert obs.shape == out.next_obs.shape == tasks.obs_shape


def test_a_walk_in_the_plane_by_hand():
    # Moves of 0.1 at most, in units of a tenth; the goal is 0.25 to the right.
    out = played(Navigation(), jnp.array([0.25, 0.0]), [[1.0, 0.0], [9.0, 0.0], [0.39, 0.0], [0.02, 0.0]])
    np.testing.assert_allclose(out.next_obs[:, 0], [0.1, 0.2, 0.239, 0.241], atol=1e-6)
    np.testing.assert_allclose(out.reward, [-0.15, -0.05, -0.011, -0.009], atol=1e-6)
    assert out.last.tolist() == [False, False, False, True]
    assert out.discount.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_at_its_time_limit_a_walk_is_cut_and_not_terminated():
    out = played(Navigation(steps=3), jnp.array([0.0, -0.05]), [[0.0, 0.0]] * 3)
    np.testing.assert_allclose(out.reward, [-0.05] * 3, atol=1e-6)
    assert out.last.tolist() == [False, False, True]
    assert out.discount.tolist() == [1.0, 1.0, 1.0]


def test_goals_in_the_plane_fill_their_square():
    goals = np.asarray(jax.vmap(Navigation().draw)(jax.random.split(KEY, 2000)))
    assert np.all(np.abs(goals) <= 0.5)
    assert np.all(goals.min(axis=0) < -0.48)
    assert np.all(goals.max(axis=0) > 0.48)
    assert np.all(np.abs(goals.mean(axis=0)) < 4 * 0.289 / 2000**0.5)


def test_walking_straight_is_best_and_is_what_the_task_pays():
    tasks, goal = Navigation(steps=6), np.array([0.23, -0.11])
    out = played(tasks, jnp.asarray(goal), [[1, -1], [1, -0.1], [0.3, 0], [0, 0], [0, 0], [0, 0]])
    assert straight_return(tasks, goal) == pytest.approx(float(out.reward[:3].sum()), abs=1e-6)
    assert out.last.tolist()[:3] == [False, False, True]
    others = np.random.default_rng(0).uniform(-1, 1, (20, 6, 2)).astype(np.float32)
    earned = jax.vmap(lambda actions: played(tasks, jnp.asarray(goal), actions).reward.sum())(others)
    assert np.all(earned < straight_return(tasks, goal))
    for other in (Navigation(steps=2), tasks, Navigation(steps=6, reach=0.2)):  # cut on the way, to the goal, near it
        assert float(other.best_return(jnp.asarray(goal))) == pytest.approx(straight_return(other, goal), abs=1e-5)


def test_a_walk_on_the_grid_by_hand():
    tasks = GoalGrid(size=3, steps=6)
    actions = [UP, RIGHT, RIGHT, DOWN, STAY, LEFT]
    out = played(tasks, jnp.array([1, 2]), actions)
    assert out.next_obs.argmax(axis=1).tolist() == [0, 1, 2, 5, 5, 4]
    np.testing.assert_array_equal(out.next_obs.sum(axis=1), 1.0)
    np.testing.assert_allclose(out.reward, [-0.1, -0.1, -0.1, 1.0, 1.0, -0.1])
    assert out.last.tolist() == [False] * 5 + [True]
    assert out.discount.tolist() == [1.0] * 6


def test_the_goals_of_the_grid_are_21_and_equally_likely():
    tasks = families.goal_grid()
    assert len(tasks.goals) == 21
    drawn = np.asarray(jax.vmap(tasks.draw)(jax.random.split(KEY, 4200)))
    cells, counts = np.unique(drawn, axis=0, return_counts=True)
    assert set(map(tuple, cells.tolist())) == set(tasks.goals)
    assert np.all(np.abs(counts - 200) < 5 * 200**0.5)


def best_by_belief(tasks: GoalGrid, episodes: int) -> float:
    """The optimum of a small grid by expectimax over full beliefs, with nothing known about its shape."""
    known: dict = {}

    def value(t, cell, left):
        """Of what follows step t, the goal being equally likely any of `left`."""
        if t == tasks.steps * episodes:
            return 0.0
        if (t, cell, left) not in known:
            known[t, cell, left] = max(move(t, there, left) for there in neighbours(cell, tasks.size))
        return known[t, cell, left]

    def move(t, there, left):
        following = (0, 0) if (t + 1) % tasks.steps == 0 else there
        other = left - {there}
        p = 1 - len(other) / len(left)
        hit = p * (1.0 + value(t + 1, following, frozenset({there}))) if p else 0.0
        return hit + ((1 - p) * (NEVER + value(t + 1, following, other)) if other else 0.0)

    return value(0, (0, 0), frozenset(tasks.goals))


@pytest.mark.parametrize(("size", "steps", "episodes"), [(3, 4, 3), (3, 7, 2), (3, 2, 4), (4, 5, 2)])
def test_the_bayes_optimum_is_the_expectimax_over_beliefs(size, steps, episodes):
    tasks = GoalGrid(size, steps)
    assert BayesOptimal(tasks, episodes).value() == pytest.approx(best_by_belief(tasks, episodes), abs=1e-9)


def test_the_bayes_optimum_of_the_published_grid_is_above_a_beam_search():
    beam = BayesOptimal(GoalGrid(), 4).walk(width=1000) / 21
    assert 0.95 * BAYES_OPTIMAL < beam <= BAYES_OPTIMAL


@pytest.mark.slow
def test_the_bayes_optimum_of_the_published_grid():
    assert BayesOptimal(GoalGrid(), 4).value() == pytest.approx(BAYES_OPTIMAL, abs=1e-9)


@pytest.mark.parametrize(("repeated", "value"), [(False, 7.8), (True, 32.2)])
def test_posterior_sampling_is_below_the_bayes_optimum(repeated, value):
    rng = np.random.default_rng(0)
    returns = [posterior_sampling(GoalGrid(), 4, repeated, rng) for _ in range(500)]
    error = np.std(returns) / len(returns) ** 0.5
    assert np.mean(returns) == pytest.approx(value, abs=4 * error)
    assert np.mean(returns) + 4 * error < BAYES_OPTIMAL


def test_the_oracles_walk_as_the_task_does():
    tasks = GoalGrid(size=3)
    pairs = list(itertools.product(itertools.product(range(3), repeat=2), range(5)))

    @jax.vmap
    def after(cell, action):
        return tasks.step(jnp.array([2, 2]), Place(cell, jnp.zeros((), jnp.int32)), action, KEY)[0].position

    found = after(jnp.array([cell for cell, _ in pairs]), jnp.array([action for _, action in pairs]))
    for (cell, action), there in zip(pairs, map(tuple, found.tolist()), strict=True):
        assert there == tuple(np.clip(np.add(cell, MOVES[action]), 0, 2).tolist())
        assert there in neighbours(cell, 3)


def test_sizes_without_meaning_are_refused():
    with pytest.raises(ValueError, match="size must be at least 3"):
        GoalGrid(size=2)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Navigation(steps=0)
