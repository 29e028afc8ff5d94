"""The actor-critic of a history against all histories of a bandit."""

import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.blueprint import Blueprint
from learned_rl.few_shot_tasks import Bandit
from learned_rl.lifetime import Lifetime
from learned_rl.rollout import over_steps
from learned_rl.rules.lpg import LPG
from learned_rl.rules.rl2 import RL2
from learned_rl.trials import Trials
from learned_rl.types import Rollout
from meta_objectives.history import HistoryActorCritic, plain
from meta_objectives.problem import History
from tests.probes import RECURRENT, SMALL, jitter

PULLS = 2
TASKS = Trials(Bandit(2), PULLS)
LIFETIME = Lifetime(TASKS, RL2(Blueprint.of(RECURRENT, TASKS)), streams=1, steps=PULLS, updates=1)
UNBIASED = HistoryActorCritic(discount=1.0, trace=1.0, entropy=0.0, critic=0.0, weigh=plain)


def histories():
    """Every history of two pulls of two arms as one stream each, `[2, 16]`, and how likely its rewards are."""
    pairs = list(itertools.product(itertools.product((0, 1), repeat=PULLS), itertools.product((0, 1), repeat=PULLS)))
    action, reward = (np.array([p[i] for p in pairs]).T for i in (0, 1))
    seen = np.concatenate([np.eye(2)[action], reward[..., None], np.ones((PULLS, 16, 1))], axis=-1)
    following = np.concatenate([np.ones((PULLS, 16, 1)), seen], axis=-1)
    first = np.concatenate([np.ones((1, 16, 1)), np.zeros((1, 16, 4))], axis=-1)
    chance = np.ones(16)
    for arm in (0, 1):  # of s successes in n pulls with p from U(0, 1), in their order
        n, s = (action == arm).sum(axis=0), ((action == arm) * reward).sum(axis=0)
        chance *= [math.factorial(a) * math.factorial(b - a) / math.factorial(b + 1) for a, b in zip(s, n, strict=True)]
    over = np.arange(PULLS)[:, None] * np.ones(16) == PULLS - 1
    zeros = jnp.zeros((PULLS, 16))
    rollout = Rollout(
        obs=jnp.asarray(np.concatenate([first, following[:-1]]), jnp.float32),
        action=jnp.asarray(action),
        reward=jnp.asarray(reward, jnp.float32),
        discount=jnp.asarray(1.0 - over, jnp.float32),
        last=jnp.asarray(over),
        next_obs=jnp.asarray(following, jnp.float32),
        behaviour_log_prob=zeros,
        memory=LIFETIME.policy.start_memory(16),
    )
    return rollout, jnp.asarray(chance, jnp.float32)


ROLLOUT, CHANCE = histories()
THETA = jax.jit(lambda key: jitter(LIFETIME.rule.init(key), key, 0.5))(jax.random.key(0))


def likely(theta):
    """How likely each history is, and what it earns per pull."""
    log_prob = LIFETIME.policy.unroll(theta, ROLLOUT).policy.log_prob(ROLLOUT.action)
    return jnp.exp(log_prob.sum(axis=0)) * CHANCE, ROLLOUT.reward.mean(axis=0)


@jax.jit
def truth(theta):
    def earned(theta):
        chance, reward = likely(theta)
        return jnp.sum(chance * reward)

    return jax.value_and_grad(earned)(theta)


def judged(objective):
    """Expectation over all histories of the objective's value and derivative, one stream at a time."""

    @jax.jit
    def expected(theta):
        chance = jax.lax.stop_gradient(likely(theta)[0])
        agent = LIFETIME.start(theta, jax.random.key(0))

        def one(stream):
            rollout = over_steps(lambda x: x[:, stream][:, None], ROLLOUT)
            rollout = rollout._replace(memory=LIFETIME.policy.start_memory(1))
            rollout = jax.tree.map(lambda x: jnp.asarray(x)[None], rollout)
            return objective.judge(LIFETIME, theta, agent, History(rollout, {}), (), jax.random.key(0))[0].loss

        return jnp.sum(chance * jax.vmap(one)(jnp.arange(16)))

    return jax.value_and_grad(expected)(THETA)


def assert_trees_close(found, expected, **tolerance):
    for (path, f), e in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(f, e, err_msg=jax.tree_util.keystr(path), **tolerance)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_value_and_gradient_are_those_of_the_return_over_all_histories(scale):
    assert float(jnp.sum(likely(THETA)[0])) == pytest.approx(1.0, abs=1e-5)
    value, gradient = truth(THETA)
    loss, found = judged(replace(UNBIASED, scale=scale))
    assert float(loss) == pytest.approx(-float(value) / scale, rel=1e-5)
    assert max(jnp.abs(g).max() for g in jax.tree.leaves(gradient["memory"])) > 1e-4
    assert_trees_close(found, jax.tree.map(lambda g: -g / scale, gradient), atol=3e-7)


def test_entropy_and_critic_add_their_own_gradients():
    def extra(theta):
        outputs = LIFETIME.policy.unroll(theta, ROLLOUT)
        chance = jax.lax.stop_gradient(likely(theta)[0])
        to_go = jnp.cumsum(ROLLOUT.reward[::-1], axis=0)[::-1]
        error = 0.5 * (outputs.flat["value"][..., 0] - to_go) ** 2
        return jnp.sum(chance * jnp.mean(0.5 * error - 0.1 * outputs.policy.entropy(), axis=0))

    _, plain = judged(UNBIASED)
    loss, whole = judged(replace(UNBIASED, entropy=0.1, critic=0.5))
    assert float(loss) == pytest.approx(-float(truth(THETA)[0]), rel=1e-5)
    difference = jax.tree.map(lambda a, b: a - b, whole, plain)
    assert_trees_close(difference, jax.jit(jax.grad(extra))(THETA), atol=3e-7)


def test_a_discount_makes_it_another_gradient():
    _, gradient = truth(THETA)
    _, found = judged(replace(UNBIASED, discount=0.5))
    difference = jax.tree.map(lambda f, g: jnp.abs(f + g).max(), found, gradient)
    assert max(jax.tree.leaves(difference)) > 2e-5  # far above the tolerance of the others


def test_what_it_cannot_judge_is_refused():
    with pytest.raises(ValueError, match="discount is in"):
        HistoryActorCritic(discount=1.5)
    with pytest.raises(ValueError, match="scale must be positive"):
        HistoryActorCritic(scale=0.0)
    lifetime = Lifetime(TASKS, LPG(), SMALL)
    with pytest.raises(ValueError, match="a LPG have no head `value`"):
        UNBIASED.judge(lifetime, (), None, None, (), None)
