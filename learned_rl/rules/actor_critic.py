"""Advantage actor-critic (Mnih et al. 2016), the synchronous kind: one gradient step a rollout."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.losses import gae, policy_gradient, squared_error
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta


@dataclass(frozen=True)
class ActorCritic:
    """Hand-designed (`theta = ()`), built in as `a2c`.

        L = -E[A log pi(a)] + value_cost E[(V - G)^2] / 2 - entropy E[H(pi)]

    with GAE advantages A and lambda-returns G held constant.
    """

    coefficients: Coefficients = Coefficients()
    optimizer: InnerOptimizer = Adam()
    heads = Heads(flat={"value": 1})

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params = policy.init(key)
        return params, self.optimizer.init(params)

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        del key
        coefficients = self.coefficients
        # Constants of the inner gradient by construction, not by a stop_gradient: that would also cut the meta-gradient
        # that reaches them from earlier updates.
        targets = prepare(params, coefficients, rollout, policy)
        gradient, metrics = jax.grad(loss, has_aux=True)(params, targets, coefficients, rollout, policy)
        params, state = self.optimizer.update(gradient, state, params, coefficients.learning_rate)
        return params, state, metrics


class Targets(NamedTuple):
    """What the agent is to learn from a rollout, each `[T, B]`: GAE advantages A, and lambda-returns G = A + V."""

    advantage: Float[Array, "T B"]
    value: Float[Array, "T B"]


def prepare(params: Params, coefficients: Coefficients, rollout: Rollout, policy: Policy) -> Targets:
    """The targets of `loss`, from the agent's own values."""
    value = policy.unroll(params, rollout).flat["value"][..., 0]
    next_value = policy.unroll_next(params, rollout).flat["value"][..., 0]
    return Targets(*gae(rollout, value, next_value, coefficients.discount, coefficients.trace))


def loss(
    params: Params, targets: Targets, coefficients: Coefficients, rollout: Rollout, policy: Policy
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of `ActorCritic`; `targets` are data to it."""
    outputs = policy.unroll(params, rollout)
    entropy = jnp.mean(outputs.policy.entropy())
    value_loss = squared_error(outputs.flat["value"][..., 0], targets.value)
    actor = policy_gradient(outputs.policy.log_prob(rollout.action), targets.advantage)
    total = actor + coefficients.value_cost * value_loss - coefficients.entropy * entropy
    return total, {"entropy": entropy, "value_loss": value_loss, "advantage_std": jnp.std(targets.advantage)}
