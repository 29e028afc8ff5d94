"""The learned objective against its equations, written out step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.optimizers import Sgd
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.metagenrl import MetaGenRL
from learned_rl.types import Discrete
from tests.learned_rl.test_rules import explicit_advantages, values_of
from tests.probes import SMALL, made, noisy, reach

KEY = jax.random.key(4)
C = Coefficients(learning_rate=20.0, discount=0.9, trace=0.7, value_cost=0.25)
RULE = MetaGenRL(hidden=6, bound=2.0, decay=0.9, coefficients=C, optimizer=Sgd())


@pytest.fixture(scope="module")
def theta():
    return noisy(RULE.init, KEY, 0.5)


def standardised(x, of):
    """By a moving average that has seen `of` once: corrected for its start, that is the plain mean and deviation."""
    return (x - of.mean()) / (of.std() + 1e-6)


def transcribed(theta, log_prob, rollout, value, next_value):
    """The objective of every step, with the LSTM written out; differentiable in `log_prob`."""
    w = jax.tree.map(jnp.asarray, theta)
    steps, streams = rollout.reward.shape
    reward = np.asarray(rollout.reward, np.float64)
    reward = standardised(reward, reward)
    value, next_value = standardised(value, value), standardised(next_value, value) * np.asarray(rollout.discount)
    hidden = cell = jnp.zeros((streams, 6))
    found = [jnp.zeros(streams)] * steps
    for t in reversed(range(steps)):
        go_on = 1.0 - rollout.last[t][:, None]
        hidden, cell = hidden * go_on, cell * go_on
        time = np.full(streams, t / steps)
        x = jnp.stack([log_prob[t], reward[t], time, next_value[t], value[t]], axis=-1)
        x = jnp.maximum(x @ w["embed"][0]["w"] + w["embed"][0]["b"], 0) @ w["embed"][1]["w"] + w["embed"][1]["b"]
        gates = jnp.concatenate([x, hidden], axis=-1) @ w["lstm"]["w"] + w["lstm"]["b"]
        i, g, f, o = (gates[:, 6 * k : 6 * (k + 1)] for k in range(4))
        cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        cost = jnp.maximum(hidden @ w["inward"]["w"] + w["inward"]["b"], 0) @ w["outward"]
        found[t] = 2.0 * jnp.tanh(cost / 2.0)
    return jnp.stack(found)


@pytest.mark.parametrize("actions", [Discrete(3), reach().actions], ids=["discrete", "continuous"])
def test_an_update_goes_down_the_objective_and_trains_the_critic(actions, theta):
    policy, params, rollout = made(SMALL, actions, RULE.heads)
    value, next_value = (np.asarray(x, np.float64) for x in values_of(policy, params, rollout))
    target = explicit_advantages(rollout, value, next_value, C) + value

    @jax.jit
    @jax.grad
    def gradient(params):
        outputs = policy.unroll(params, rollout)
        cost = transcribed(theta, outputs.policy.log_prob(rollout.action), rollout, value, next_value)
        return jnp.mean(cost + 0.25 * 0.5 * (outputs.flat["value"][..., 0] - target) ** 2)

    expected = jax.tree.map(lambda p, g: p - 20.0 * g, params, gradient(params))

    @jax.jit
    def ours(theta, params):
        _, state = RULE.birth(theta, policy, KEY)
        return RULE.update(theta, params, state, rollout, policy, KEY)

    found, state, metrics = ours(theta, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-5), found, expected)
    assert np.abs(found["policy"]["kernel"] - params["policy"]["kernel"]).max() > 1e-3
    assert state.rewards.first == pytest.approx(0.1 * float(rollout.reward.mean()), rel=1e-4)
    assert np.isfinite(metrics["objective"])


def test_an_untrained_objective_trains_the_critic_and_leaves_the_policy_alone():
    policy, params, rollout = made(SMALL, Discrete(3), RULE.heads)
    theta, (_, state) = RULE.init(KEY), RULE.birth((), policy, KEY)
    after, _, _ = jax.jit(lambda theta: RULE.update(theta, params, state, rollout, policy, KEY))(theta)
    np.testing.assert_array_equal(after["policy"]["kernel"], params["policy"]["kernel"])
    assert np.any(after["value"]["kernel"] != params["value"]["kernel"])


def test_the_objective_sees_an_episode_to_its_end_and_no_unit_of_reward(theta):
    policy, params, rollout = made(SMALL, Discrete(3), RULE.heads)
    rollout = rollout._replace(last=jnp.zeros_like(rollout.last).at[2].set(True))
    _, state = RULE.birth(theta, policy, KEY)

    @jax.jit
    def costs(log_prob, reward):
        seen, _ = RULE._look(params, state, rollout._replace(reward=reward), policy)
        return RULE.objective(theta, log_prob, seen, rollout)

    log_prob = rollout.behaviour_log_prob
    slope = np.abs(jax.jacobian(lambda x: costs(x, rollout.reward).sum(axis=1))(log_prob)).max(axis=-1)  # [of, by]
    reaches = [np.flatnonzero(row).tolist() for row in slope]
    assert reaches == [[0, 1, 2], [1, 2], [2], [3, 4, 5], [4, 5], [5]]
    np.testing.assert_allclose(costs(log_prob, 100 * rollout.reward), costs(log_prob, rollout.reward), rtol=1e-3)
