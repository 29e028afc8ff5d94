"""Rules learn what a few updates can teach. Each probe fails for one reason: value, discount, ending, policy."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from tests.probes import RECURRENT, SMALL, CueValue, LateReward, MatchCue, Recall, Wage, reach

GAMMA = 0.8
FAST = Coefficients(learning_rate=0.02, discount=GAMMA, entropy=0.0, value_cost=1.0)
LEARNERS = {"a2c": ActorCritic(FAST), "ppo": Drift(coefficients=FAST, epochs=2, minibatches=2)}


def grown(rule, tasks, updates, network=SMALL):
    """A trained agent from one seed, judged: `(rollout, its values)`."""
    lifetime = Lifetime(tasks, rule, network, streams=16, steps=8, updates=updates)

    @jax.jit
    def life(key):
        agent = lifetime.start((), key)
        keys = jax.random.split(key, updates)
        agent, _ = jax.lax.scan(lambda agent, k: (lifetime.live((), agent, k)[0], ()), agent, keys)
        _, rollout = lifetime.act(agent, key)
        return rollout, lifetime.policy.unroll(agent.params, rollout).flat["value"][..., 0]

    return life(jax.random.key(0))


@pytest.mark.parametrize("rule", LEARNERS)
@pytest.mark.parametrize(
    ("tasks", "value"),
    [
        (CueValue(), lambda obs: obs[..., 0]),
        (LateReward(2), lambda obs: obs[..., 0] * np.where(obs[..., 1] == 0, GAMMA, 1.0)),
        (Wage(), lambda obs: np.ones(obs.shape[:-1])),
        (Wage(1, terminates=False), lambda obs: np.full(obs.shape[:-1], 1 / (1 - GAMMA))),
    ],
    ids=["value", "discounting", "termination", "time limit"],
)
def test_values_are_learned(rule, tasks, value):
    # A value of ten is a long way at a small rate.
    coefficients = replace(FAST, learning_rate=0.1 if isinstance(tasks, Wage) else 0.02)
    rollout, found = grown(replace(LEARNERS[rule], coefficients=coefficients), tasks, 200)
    expected = value(np.asarray(rollout.obs))
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("rule", LEARNERS)
@pytest.mark.parametrize(
    ("tasks", "network", "least"),
    [(MatchCue(), SMALL, 0.95), (reach(), SMALL, -0.15), (Recall(2), RECURRENT, 0.45)],
    ids=["discrete", "continuous", "memory"],
)
def test_policies_are_learned(rule, tasks, network, least):
    rollout, _ = grown(LEARNERS[rule], tasks, 300, network)
    assert rollout.reward.mean() > least
