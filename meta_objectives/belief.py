"""A belief's evidence lower bound beside what the agent earns by it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.rules.varibad import VariBAD
from learned_rl.types import Theta
from meta_objectives.history import HistoryActorCritic
from meta_objectives.problem import History, MetaObjective
from truncation.problem import Segment


@dataclass(frozen=True)
class BeliefRegularised:
    """Combinator for `VariBAD`: adds -weight ELBO / H of the segment's trials to `base` (Zintgraf et al. 2020, eq. 6).

        loss = base + weight (reconstruction + divergence KL(q_t || q_{t-1}))

    The encoder and the decoder are moved by the second term alone and the policy by the first alone, because the
    network holds beliefs constant before the policy reads them (`learned_rl.belief_network`).

    Attributes:
      base: judges what the agent earned.
      weight: of the bound, per step of a trial.
      divergence: of the KL; 1 is the bound itself, the published grid world has 0.01.

    Raises:
      ValueError: a negative weight; or, when it judges, a rule without beliefs.
    """

    base: MetaObjective = HistoryActorCritic()
    weight: float = 0.1
    divergence: float = 0.01

    def __post_init__(self):
        if min(self.weight, self.divergence) < 0:
            raise ValueError(f"weight and divergence must be at least 0, not {self.weight} and {self.divergence}")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Any:
        return self.base.start(lifetime, key)

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Any, key: PRNGKeyArray
    ) -> tuple[Segment, Any]:
        if not isinstance(lifetime.rule, VariBAD):
            raise ValueError(f"rule: BeliefRegularised is for VariBAD, a {type(lifetime.rule).__name__} has no beliefs")
        key_base, key_latent = jax.random.split(key)
        segment, state = self.base.judge(lifetime, theta, agent, history, state, key_base)
        rule, policy = lifetime.rule, lifetime.policy
        rollouts = jax.lax.stop_gradient(history.rollout)
        keys = jax.random.split(key_latent, len(rollouts.last))
        parts = jax.vmap(lambda r, k: rule.evidence(theta, agent.params, r, policy, k))(rollouts, keys)
        parts = jax.tree.map(jnp.mean, parts)
        cost = self.weight * (parts.reconstruction + self.divergence * parts.divergence)
        return segment._replace(loss=segment.loss + cost, metrics=segment.metrics | parts._asdict()), state
