"""Return over K:H: what an agent earns in a lifetime once its free episodes are over.

The objective of Duan et al. 2016 and of Beck et al. 2023 (section 2.2): the return of the episodes K, K + 1, ..., H
of a lifetime, the first K being free exploration. Not differentiable in theta (sampling stands between): use evolution
strategies, or `PolicyGradientSurrogate`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.types import Theta
from meta_objectives.problem import History
from truncation.problem import Segment


@dataclass(frozen=True)
class LifetimeReturn:
    """Negative mean episode return at the end of each segment, averaged over the whole lifetime by the estimator.

    loss = -E_streams[ R(last episode that ended) 1{more than `free_episodes` have ended} ] / scale

    With `free_episodes = 0` the return of an episode under way counts before the first has ended.

    With `final` only the last fraction of the lifetime counts (1.0: all of it; 0.1: its last tenth); the loss is then
    divided by that fraction, so that its lifetime mean is the mean return over what counts.

    Attributes:
      free_episodes: K. A stream contributes 0 until its episode K + 1 has ended: the first K are exploration.
      final: fraction of the lifetime that counts, in (0, 1].
      scale: divides the return, to bring a task family's losses to order one.
    """

    free_episodes: int = 0
    final: float = 1.0
    scale: float = 1.0

    def __post_init__(self):
        if not 0 < self.final <= 1:
            raise ValueError(f"final is a fraction of the lifetime in (0, 1], not {self.final}")
        if self.free_episodes < 0 or self.scale <= 0:
            raise ValueError(f"free_episodes ({self.free_episodes}) must be >= 0 and scale ({self.scale}) > 0")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: tuple[()], key: PRNGKeyArray
    ) -> tuple[Segment, tuple[()]]:
        streams = agent.streams
        judged = streams.episodes > self.free_episodes if self.free_episodes else True
        earned = jnp.where(judged, streams.episode_return, 0.0)
        counts = agent.updates > (1.0 - self.final) * lifetime.updates
        loss = -jnp.mean(earned) * counts / (self.final * self.scale)
        return Segment(loss, {}), ()
