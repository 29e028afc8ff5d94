"""The hand-designed schedule: coefficients that fall linearly over a lifetime."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import check_names
from learned_rl.rules.nested import fed, part
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta


@dataclass(frozen=True)
class Anneal:
    """Combinator: feeds `base` its own coefficients, those called `annealed` multiplied by a straight line.

        c(progress) = c_base (1 - (1 - final) progress)

    What `Schedule` has to beat. theta is the base rule's own.

    Raises:
      ValueError: `annealed` names something that is not a coefficient, or one twice, or `base` has none.
    """

    base: Rule = ActorCritic()
    annealed: tuple[str, ...] = ("learning_rate", "entropy")
    final: float = 0.0

    def __post_init__(self):
        part(self.base, "coefficients")
        check_names(self.annealed, "annealed")

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        return self.base.init(key)

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        return self.base.birth(theta, policy, key)

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        c = part(self.base, "coefficients")
        left = 1.0 - (1.0 - self.final) * jnp.asarray(rollout.progress)
        told = replace(c, **{name: getattr(c, name) * left for name in self.annealed})
        return fed(self.base, "coefficients", told).update(theta, params, state, rollout, policy, key)
