"""Not learning at all: the floor that every rule must stand above."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta


@dataclass(frozen=True)
class NoLearning:
    """Hand-designed (`theta = ()`), built in as `random`: an agent stays as it was born, close to uniform."""

    @property
    def heads(self) -> Heads:
        return Heads()

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        return policy.init(key), ()

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        return params, state, {"entropy": jnp.mean(policy.unroll(params, rollout).policy.entropy())}
