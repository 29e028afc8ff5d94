"""Trials: one task from beginning to end, episodes inside, and nothing that leaks from one trial into the next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.blueprint import Blueprint, inherited
from learned_rl.few_shot_tasks import Bandit
from learned_rl.lifetime import Lifetime
from learned_rl.rollout import collect, start_streams
from learned_rl.rules.rl2 import RL2
from learned_rl.trials import Trials
from learned_rl.types import Discrete, Heads, TaskFamily
from tests.probes import RECURRENT, SMALL, MatchCue, reach


class Coins(MatchCue):
    """Task, cue and reward are coins tossed from a key alone; the reward shows the task too."""

    obs_shape = (2,)

    def draw(self, key):
        return self._toss(key)

    def reset(self, task, key):
        state, _ = super().reset(task, key)
        state = state._replace(cue=self._toss(key))
        return state, self.observe(state)

    def step(self, task, state, action, key):
        state, out = super().step(task, state, action, key)
        return state, out._replace(reward=self._toss(key) + 10 * task)

    def _toss(self, key):
        return jnp.argmax(jax.random.gumbel(key, (1, 2))).astype(jnp.float32)


def lived(tasks, steps, streams, seed=0):
    policy = SMALL.build(tasks.obs_shape, tasks.actions, Heads())

    @jax.jit
    def live(key):
        key_init, key_start, key_live = jax.random.split(key, 3)
        params = jax.tree.map(jnp.zeros_like, policy.init(key_init))  # acts at random
        began = start_streams(tasks, (), policy, streams, key_start)
        return collect(tasks, (), policy, params, began, jax.random.split(key_live, steps), jnp.float32(0))

    return live(jax.random.key(seed))


@pytest.mark.parametrize("terminates", [True, False])
def test_a_trial_is_its_episodes_and_ends_with_the_last_of_them(terminates):
    tasks = Trials(Coins(length=3, terminates=terminates), episodes=2)
    assert isinstance(tasks, TaskFamily)
    assert tasks.obs_shape == (6,)
    streams, r = lived(tasks, 15, 4)
    step = np.arange(15)[:, None] * np.ones(4, int)
    np.testing.assert_array_equal(r.last, step % 6 == 5)
    np.testing.assert_array_equal(r.discount, step % 6 != 5)
    cue, time, action, reward, ended = np.split(np.asarray(r.obs), [1, 2, 4, 5], axis=-1)
    np.testing.assert_array_equal(time[..., 0], step % 3)
    first = step % 6 == 0
    np.testing.assert_array_equal(r.obs[..., 2:][first], 0)
    inside = ~first[1:]
    np.testing.assert_array_equal(action[1:][inside], jax.nn.one_hot(r.action[:-1], 2)[inside])
    np.testing.assert_array_equal(reward[1:, :, 0][inside], r.reward[:-1][inside])
    np.testing.assert_array_equal(ended[1:, :, 0][inside], (step[1:] % 3 == 0)[inside])
    # What a step leads to is what is acted on next, but for what the last step of a trial leads to.
    np.testing.assert_array_equal(r.next_obs[:-1][inside], r.obs[1:][inside])
    np.testing.assert_array_equal(r.next_obs[..., -1], step % 3 == 2)
    # A cue lasts an episode.
    np.testing.assert_array_equal(cue[1:, :, 0][step[1:] % 3 != 0], cue[:-1, :, 0][step[1:] % 3 != 0])
    np.testing.assert_array_equal(streams.episodes, 2)
    np.testing.assert_allclose(streams.episode_return, r.reward[6:12].sum(axis=0))


def test_a_task_lasts_a_trial_and_streams_have_tasks_of_their_own():
    _, r = lived(Trials(Coins(length=3), episodes=2), 24, 32)
    task = np.asarray(r.reward >= 10).reshape(4, 6, 32)
    np.testing.assert_array_equal(task, task[:, :1] * np.ones((1, 6, 1), bool))
    drawn = task[:, 0]
    assert 0.3 < drawn.mean() < 0.7
    for one, other in ((0, 1), (1, 2), (0, 3)):
        assert 0.2 < (drawn[one] == drawn[other]).mean() < 0.8
    assert len({tuple(d) for d in drawn.T}) > 8  # of 16


def test_task_episode_step_and_action_have_keys_of_their_own():
    _, r = lived(Trials(Coins(length=1), episodes=2), 200, 2)
    task, reward = np.divmod(np.asarray(r.reward), 10)
    cue, action = np.asarray(r.obs[..., 0]), np.asarray(r.action)
    here, there = slice(0, -1, 2), slice(1, None, 2)  # the first and the second step of every trial
    coins = [x[s].ravel() for x in (reward, cue, action) for s in (here, there)] + [task[here].ravel()]
    tossed = np.stack(coins)
    agreement = (tossed[:, None] == tossed[None]).mean(axis=2)[np.triu_indices(len(tossed), 1)]
    assert np.all(np.abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(200)), agreement  # 1 where a key is used twice


@pytest.mark.parametrize("make", [families.bandit_trials, families.mdp_trials])
def test_credit_is_the_mean_of_what_is_paid_but_for_the_task_and_nothing_else_is_different(make):
    paid, credited = make(), make(credited=True)
    state, _ = jax.vmap(paid.reset, (None, 0))((), jax.random.split(jax.random.key(0), 4))
    keys, actions = jax.random.split(jax.random.key(1), 4000), jnp.arange(2)

    def step(tasks):
        every = jax.vmap(tasks.step, (None, None, None, 0))
        return jax.jit(jax.vmap(jax.vmap(every, (None, None, 0, None)), (None, 0, None, None)))

    (after, was), (after_credit, told) = (step(tasks)((), state, actions, keys) for tasks in (paid, credited))
    jax.tree.map(np.testing.assert_array_equal, (after, was._replace(reward=told.reward)), (after_credit, told))
    np.testing.assert_array_equal(told.reward, np.repeat(told.reward[..., :1], 4000, axis=-1))  # no luck in it
    credit, mean = told.reward[..., 0], was.reward.mean(axis=-1)
    assert len(np.unique(credit)) > 4  # of 4 tasks and 2 actions; the best arm's is 0
    np.testing.assert_allclose(credit[:, 1] - credit[:, 0], mean[:, 1] - mean[:, 0], atol=0.08)


def test_the_credit_of_an_arm_is_what_it_falls_short_of_the_best_one():
    arms = jnp.array([0.25, 0.75, 0.5])
    assert [float(Bandit(3).credit(arms, (), a)) for a in range(3)] == [-0.5, 0.0, -0.25]
    with pytest.raises(ValueError, match="a Coins has no `credit`"):
        Trials(Coins(length=3), credited=True)


def test_real_actions_are_shown_as_they_are():
    tasks = Trials(reach(2), episodes=2)
    assert tasks.obs_shape == (5,)
    _, r = lived(tasks, 3, 4)
    np.testing.assert_array_equal(r.obs[1:, :, 2], r.action[:-1, :, 0])


def test_a_rule_brings_its_agents_and_refuses_tasks_of_another_shape():
    tasks = Trials(MatchCue(2), episodes=3)
    rule = RL2(Blueprint.of(RECURRENT, tasks))
    lifetime = Lifetime(tasks, rule, SMALL, streams=3, steps=6, updates=2)
    assert lifetime.policy == RECURRENT.build((6,), Discrete(2), rule.heads)
    theta = jax.jit(rule.init)(jax.random.key(0))
    agent, _, metrics = jax.jit(lambda key: lifetime.live(theta, lifetime.start(theta, key), key))(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, agent.params, theta)
    np.testing.assert_array_equal(agent.streams.episodes, 1)
    assert 0 < metrics["entropy"] <= np.log(2) + 1e-6
    with pytest.raises(ValueError, match=r"rule.blueprint.obs_shape is \(6,\), but MatchCue has \(2,\)"):
        Lifetime(MatchCue(2), rule)


def test_heads_that_theta_does_not_have_are_born_at_random():
    own = RECURRENT.build((2,), Discrete(2), Heads(flat={"value": 1}))
    more = RECURRENT.build((2,), Discrete(2), Heads(flat={"value": 1, "other": 3}))
    theta = own.init(jax.random.key(0))
    params = inherited(theta, more, jax.random.key(1))
    assert jax.tree.structure(params) == jax.tree.structure(more.init(jax.random.key(2)))
    jax.tree.map(np.testing.assert_array_equal, {k: params[k] for k in theta}, theta)
    with pytest.raises(ValueError, match=r"has no \['other'\]"):
        inherited(params, own, jax.random.key(1))
    with pytest.raises(ValueError, match=r"params.body_0.kernel: theta has"):
        inherited(theta, RECURRENT.build((3,), Discrete(2), own.heads), jax.random.key(1))
