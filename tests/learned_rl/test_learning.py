"""Rules learn what a few updates can teach. Each probe fails for one reason: value, discount, ending, policy."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from tests.probes import RECURRENT, SMALL, LateReward, MatchCue, Recall, Wage, reach

GAMMA = 0.8
FAST = Coefficients(learning_rate=0.02, discount=GAMMA, entropy=0.0, value_cost=1.0)
LEARNERS = {"a2c": ActorCritic(FAST), "ppo": Drift(coefficients=FAST, epochs=2, minibatches=2)}
UPDATES = 200


def grown(rule, tasks, updates, network=SMALL):
    """A trained agent from one seed, judged: `(rollout, its values)`."""
    lifetime = Lifetime(tasks, rule, network, streams=16, steps=8, updates=updates)
    key = jax.random.key(0)
    agent = lifetime.start((), key)
    keys = jax.random.split(key, updates)
    agent, _ = jax.lax.scan(lambda agent, k: (lifetime.live((), agent, k)[0], ()), agent, keys)
    _, rollout = lifetime.act(agent, key)
    return rollout, lifetime.policy.unroll(agent.params, rollout).flat["value"][..., 0]


# Where an episode is one step long, a late reward is the cue: so two kinds of probes are all four. Numbers of a probe
# may be traced; both of a kind are grown in one program. (length, terminates, learning rate): a value of ten is a long
# way at a small rate.
KINDS = {LateReward: ((1, True, 0.02), (2, True, 0.02)), Wage: ((1, True, 0.1), (1, False, 0.1))}
PROBES = {
    "value": (LateReward, 0, lambda obs: obs[..., 0]),
    "discounting": (LateReward, 1, lambda obs: obs[..., 0] * np.where(obs[..., 1] == 0, GAMMA, 1.0)),
    "termination": (Wage, 0, lambda obs: np.ones(obs.shape[:-1])),
    "time limit": (Wage, 1, lambda obs: np.full(obs.shape[:-1], 1 / (1 - GAMMA))),
}


@functools.cache
def of_both(rule, kind):
    """What `grown` tells of both probes of a kind."""

    def one(length, terminates, rate):
        coefficients = replace(FAST, learning_rate=rate)
        return grown(replace(LEARNERS[rule], coefficients=coefficients), kind(length, terminates), UPDATES)

    settings = [np.array(x) for x in zip(*KINDS[kind], strict=True)]
    return jax.device_get(jax.jit(jax.vmap(one))(*settings))


@pytest.mark.parametrize("rule", LEARNERS)
@pytest.mark.parametrize("probe", PROBES)
def test_values_are_learned(rule, probe):
    kind, number, value = PROBES[probe]
    rollout, found = jax.tree.map(lambda x: x[number], of_both(rule, kind))
    expected = value(rollout.obs)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("rule", LEARNERS)
@pytest.mark.parametrize(
    ("tasks", "network", "least"),
    [(MatchCue(), SMALL, 0.95), (reach(), SMALL, -0.15), (Recall(2), RECURRENT, 0.45)],
    ids=["discrete", "continuous", "memory"],
)
def test_policies_are_learned(rule, tasks, network, least):
    rollout, _ = jax.jit(lambda: grown(LEARNERS[rule], tasks, 300, network))()
    assert rollout.reward.mean() > least
