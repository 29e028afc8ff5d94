"""From a lifetime and a judgement to an inner problem: the bridge between `learned_rl` and `truncation`."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from learned_rl.lifetime import Agent, Lifetime, mean_return
from learned_rl.types import Metrics, Rollout, Theta
from truncation.problem import Segment


class History(NamedTuple):
    """What happened in a segment, one entry per update: leaves `[K, ...]`."""

    rollout: Rollout
    metrics: Metrics


@runtime_checkable
class MetaObjective(Protocol):
    """Which number the outer loop lowers."""

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Any:
        """The objective's own state in a new life: a critic, a sum, what was judged before; `()` if it needs none."""
        ...

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Any, key: PRNGKeyArray
    ) -> tuple[Segment, Any]:
        """Judges the agent after a segment. `history` holds the data that made it what it is."""
        ...


class JudgedLife(NamedTuple):
    """The state of one life together with its judge's."""

    agent: Agent
    objective: Any


@dataclass(frozen=True)
class MetaProblem:
    """An `InnerProblem`: one segment is `segment` updates of a lifetime, then a judgement.

    Attributes:
      lifetime: the inner training run.
      objective: what is to be lowered.
      segment: K, inner updates per segment.
    """

    lifetime: Lifetime
    objective: MetaObjective
    segment: int = 5

    def __post_init__(self):
        if self.segment < 1 or self.lifetime.updates % self.segment:
            raise ValueError(
                f"segment={self.segment} does not divide lifetime.updates={self.lifetime.updates}; "
                f"a lifetime is a whole number of segments"
            )

    @property
    def segments(self) -> int:
        """Segments in a lifetime: an estimator's `horizon`."""
        return self.lifetime.updates // self.segment

    def start(self, theta: Theta, key: PRNGKeyArray) -> JudgedLife:
        key_agent, key_judge = jax.random.split(key)
        return JudgedLife(self.lifetime.start(theta, key_agent), self.objective.start(self.lifetime, key_judge))

    def advance(self, theta: Theta, life: JudgedLife, key: PRNGKeyArray) -> tuple[JudgedLife, Segment]:
        key_live, key_judge = jax.random.split(key)

        def update(agent: Agent, key: PRNGKeyArray):
            agent, rollout, metrics = self.lifetime.live(theta, agent, key)
            return agent, History(rollout, metrics)

        agent, history = jax.lax.scan(update, life.agent, jax.random.split(key_live, self.segment))
        segment, state = self.objective.judge(self.lifetime, theta, agent, history, life.objective, key_judge)
        # A return is finite even when the parameters no longer are (an argmax over NaNs acts): say so in the loss.
        loss = jnp.where(all_finite(agent.params), segment.loss, jnp.nan)
        metrics = {f"rule/{name}": jnp.mean(value) for name, value in history.metrics.items()}
        metrics |= {"return": mean_return(agent.streams)} | segment.metrics
        return JudgedLife(agent, state), Segment(loss, metrics)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
