"""A judgement of what an agent lived through, made of what it would live through now."""

from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.types import Theta
from meta_objectives.history import HistoryActorCritic, plain
from meta_objectives.problem import History, MetaObjective
from truncation.problem import Segment


@dataclass(frozen=True)
class OnFreshSteps:
    """Combinator: `base` judges steps that the *adapted* agent takes, and that are thrown away, not the segment's own.

    With `HistoryActorCritic` inside it is the outer objective of `MAML` (Finn et al. 2017, algorithm 3): the policy
    gradient after adaptation, on data of the adapted policy. Its baseline is the agent's own value, as learned as the
    rest of the agent; an outer critic of the few updates that such a life has would not have learned anything, and the
    published algorithm fits a linear one to each batch. The value is -E[r], so that `SamplingCorrected` may add what
    the data of the adaptation owe to theta.

    Attributes:
      base: the objective that is shown them.
    """

    base: MetaObjective = HistoryActorCritic(discount=0.99, weigh=plain)

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Any:
        return self.base.start(lifetime, key)

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Any, key: PRNGKeyArray
    ) -> tuple[Segment, Any]:
        key_act, key_base = jax.random.split(key)
        _, rollout = lifetime.act(jax.lax.stop_gradient(agent), key_act)
        fresh = history._replace(rollout=jax.tree.map(lambda x: x[None], rollout))
        return self.base.judge(lifetime, theta, agent, fresh, state, key_base)
