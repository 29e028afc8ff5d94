"""Bandits and random MDPs: what was drawn is what is played, and the exact optimum of the short bandit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.bandit_oracle import bayes_optimum, greedy
from learned_rl.few_shot_tasks import Bandit, Chances, SeededMDP, TabularMDP
from learned_rl.types import TaskFamily


def played(tasks, task, actions, key):
    """TimeSteps of one long episode, its ends ignored."""

    def step(state, inputs):
        action, key = inputs
        return tasks.step(task, state, action, key)

    state, _ = tasks.reset(task, key)
    return jax.jit(lambda a, k: jax.lax.scan(step, state, (a, k))[1])(actions, jax.random.split(key, len(actions)))


def test_arms_pay_as_often_as_was_drawn():
    tasks = Bandit(3)
    assert isinstance(tasks, TaskFamily)
    draws = jax.vmap(tasks.draw)(jax.random.split(jax.random.key(0), 1000))
    assert draws.shape == (1000, 3)
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=4 * 0.289 / 1000**0.5)
    np.testing.assert_allclose(draws.std(axis=0), 12**-0.5, atol=0.03)
    task, actions = jnp.array([0.0, 0.3, 1.0]), jnp.arange(6000) % 3
    out = played(tasks, task, actions, jax.random.key(1))
    assert np.all(out.last)
    assert np.all(out.discount == 0)
    paid = np.asarray(out.reward).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(paid[[0, 2]], [0, 1])
    assert abs(paid[1] - 0.3) < 4 * (0.21 / 2000) ** 0.5


def test_a_drawn_process_is_walked_as_it_says():
    tasks = TabularMDP(states=3, choices=2, horizon=4)
    assert isinstance(tasks, TaskFamily)
    # From s to s + 1 by action 0, back to 0 by action 1; the reward names the pair.
    following = jnp.stack([jnp.roll(jnp.eye(3), 1, axis=1), jnp.eye(3)[jnp.zeros(3, int)]], axis=1)
    task = Chances(100.0 * jnp.arange(6).reshape(3, 2), following)
    out = played(tasks, task, jnp.array([0, 0, 1, 0]), jax.random.key(0))
    np.testing.assert_array_equal(out.next_obs.argmax(axis=1), [1, 2, 0, 1])
    np.testing.assert_array_equal(np.round(out.reward / 100), [0, 2, 5, 0])
    np.testing.assert_array_equal(out.last, [False, False, False, True])
    np.testing.assert_array_equal(out.discount, 1)
    np.testing.assert_array_equal(tasks.reset(task, jax.random.key(1))[1], [1, 0, 0])


def tables(tasks, task):
    """All rows of a task."""
    states, choices = jnp.arange(tasks.states), jnp.arange(tasks.choices)
    return Chances(*jax.vmap(lambda s: jax.vmap(lambda a: tasks.row(task, s, a))(choices))(states))


@pytest.mark.parametrize("tasks", [TabularMDP(), SeededMDP()], ids=["tables", "seeded"])
def test_processes_have_the_published_distribution(tasks):
    tasks_drawn = jax.jit(jax.vmap(tasks.draw))(jax.random.split(jax.random.key(0), 200))
    drawn = jax.jit(jax.vmap(lambda task: tables(tasks, task)))(tasks_drawn)
    assert drawn.reward.shape == (200, 10, 5)
    assert drawn.following.shape == (200, 10, 5, 10)
    np.testing.assert_allclose(drawn.following.sum(axis=-1), 1, rtol=1e-5)
    # A flat Dirichlet over 10: mean 1/10, variance 9 / (100 * 11).
    assert drawn.following.var() == pytest.approx(9 / 1100, rel=0.05)
    assert abs(drawn.reward.mean() - 1) < 4 / 100
    assert drawn.reward.std() == pytest.approx(1, rel=0.03)
    # No two rows have to do with each other, nor what a row pays with where it leads.
    first, second = drawn.reward[..., 0].ravel(), drawn.reward[..., 1].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.09
    assert max(abs(np.corrcoef(drawn.reward.ravel(), drawn.following[..., s].ravel())[0, 1]) for s in range(10)) < 0.04
    one = jax.tree.map(lambda x: x[0], drawn)
    out = played(tasks, jax.tree.map(lambda x: x[0], tasks_drawn), jnp.full(20_000, 3), jax.random.key(1))
    before = np.concatenate([[0], out.next_obs.argmax(axis=1)[:-1]])
    noise = out.reward - one.reward[before, 3]
    assert abs(noise.mean()) < 4 / 20_000**0.5
    assert noise.std() == pytest.approx(1, rel=0.03)
    for state in (0, 7):
        reached = np.asarray(out.next_obs)[before == state]
        error = np.sqrt(one.following[state, 3] * (1 - one.following[state, 3]) / len(reached))
        assert np.all(np.abs(reached.mean(axis=0) - one.following[state, 3]) < 4.5 * error + 1e-3)
    # Reward and transition have keys of their own.
    assert abs(np.corrcoef(noise, out.next_obs.argmax(axis=1))[0, 1]) < 0.03


def test_the_exact_optimum_of_ten_pulls():
    assert bayes_optimum(1, 10) == pytest.approx(5.0)
    assert bayes_optimum(2, 1) == pytest.approx(0.5)
    # Win, stay: 1/2 (1 + 2/3); lose, change: 1/2 1/2.
    assert bayes_optimum(2, 2) == pytest.approx(0.5 + 0.5 * 2 / 3 + 0.5 * 0.5)
    assert bayes_optimum(5, 10) == pytest.approx(6.6600, abs=5e-5)
    assert bayes_optimum(10, 10) == pytest.approx(6.7140, abs=5e-5)
    assert bayes_optimum(5, 10) - 0.01 < greedy(5, 10) < bayes_optimum(5, 10)


@pytest.mark.parametrize("make", [lambda: Bandit(0), lambda: TabularMDP(states=0)])
def test_empty_tasks_are_refused(make):
    with pytest.raises(ValueError, match="at least 1"):
        make()
