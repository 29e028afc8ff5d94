"""The recipe that learns everything at once starts as PPO with Adam, and its parts have the names that it says."""

import jax
import numpy as np

from learned_rl.rules.drift import Drift
from learned_rl.rules.nested import part
from learned_rl.types import Discrete
from runs.catalogue import recipe
from runs.parts import part as theta_part
from tests.probes import SMALL, made


def test_untrained_it_is_ppo_with_adam_to_rounding_and_every_part_has_a_name():
    whole = recipe("joint").rule
    ppo = Drift(coefficients=part(whole, "coefficients"), optimizer=part(whole, "optimizer"), epochs=2, minibatches=2)
    policy, params, rollout = made(SMALL, Discrete(2), whole.heads)

    @jax.jit
    def both(key):
        theta = whole.init(key)
        _, state = whole.birth(theta, policy, key)
        ours, _, _ = whole.update(theta, params, state, rollout, policy, key)
        theirs, _, _ = ppo.update((), params, ppo.optimizer.init(params), rollout, policy, key)
        return ours, theirs, theta

    ours, theirs, theta = both(jax.random.key(0))
    # A learned drift that has learned nothing is PPO's but for 1e-4, which no gradient sees.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), ours, theirs)
    for path in ("schedule", "base.reward", "base.base.optimizer", "base.base.base"):
        assert jax.tree.leaves(theta_part(theta, path))
