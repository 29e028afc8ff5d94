"""The lifetime return, differentiated: every action of a segment is judged by all that the life earned after it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import LSTMState
from learned_rl.lifetime import Agent, Lifetime
from learned_rl.losses import squared_error
from learned_rl.returns import advantages
from learned_rl.rules.intrinsic.value import LifetimeValue
from learned_rl.types import Rollout, Theta
from meta_objectives.problem import History
from truncation.problem import Segment


@dataclass(frozen=True)
class LifetimeSurrogate:
    """loss = -mean_t A_t sum_b log pi(a_tb; params that acted) + value_cost mean_t (V_t - G_t)^2 / 2

        delta_t = r_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lambda A_{t+1},   G_t = A_t + V_t

    over the K updates of T steps of a segment (the meta-gradient of Zheng et al. 2020, with lambda-returns). r_t is
    the mean over the agent's streams of what the task pays, and V the lifetime value of what happened until then. An
    episode's end is nothing special: neither r nor V is cut there, for what was learned in one episode is earned in
    the next ones. After the segment V stands in for the rest of the life; after the lifetime's last update there is
    none. An agent is one, so its streams' actions are one: what one stream finds out, all are paid for.

    The derivative reaches theta through the parameters that acted, so through the updates of this window that made
    them. The actions of a window's first update are data, and what its last update did is seen by nobody (see
    `PolicyGradientSurrogate`, which judges just that, by steps that are thrown away, but only until the end of an
    episode): let K or the window be several updates.

    With gamma = lambda = 1 and one segment a lifetime, the gradient is that of E[-mean_t r_t] but for the paths that
    `SamplingCorrected` counts the conditions of, exactly, whatever V is. Shorter segments are as biased as their V is,
    and as the window is short. Only the derivative of this loss means something.

    Needs `LifetimeValue` as the outermost rule: V is learned across lives, and theta is all that lives share.

    Attributes:
      discount: gamma, per step, of the lifetime.
      trace: lambda.
      value_cost: weight of V's own loss.

    Raises:
      ValueError: a number is out of range; or the lifetime's rule has no lifetime value.
    """

    discount: float = 0.99
    trace: float = 0.95
    value_cost: float = 0.5

    def __post_init__(self):
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is in [0, 1], not {getattr(self, name)}")
        if self.value_cost < 0:
            raise ValueError(f"value_cost={self.value_cost} is negative")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> LSTMState:
        return _rule(lifetime).unread()

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: LSTMState, key: PRNGKeyArray
    ) -> tuple[Segment, LSTMState]:
        rollout, progress = _joined(history.rollout)
        now = jnp.minimum(agent.updates / lifetime.updates, 1.0)
        values, state = _rule(lifetime).values(
            theta, state, rollout, jnp.concatenate([progress, now[None]]), agent.streams.obs
        )
        goes_on = jnp.ones_like(progress).at[-1].set(agent.updates < lifetime.updates)
        advantage, target = self._judged(jnp.mean(rollout.reward, axis=1), goes_on, values)
        actor = -jnp.mean(advantage * jnp.sum(rollout.behaviour_log_prob, axis=1))
        value_loss = squared_error(values[:-1], target)
        metrics = {"lifetime_value": jnp.mean(values), "lifetime_value_loss": value_loss}
        return Segment(actor + self.value_cost * value_loss, metrics), state

    def _judged(
        self, reward: Float[Array, " T"], goes_on: Float[Array, " T"], values: Float[Array, " T+1"]
    ) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
        """A and G, as data. `goes_on` is 0 at the last step of a life."""
        reward, values = jax.lax.stop_gradient((reward, values))
        never = jnp.zeros(reward.shape, bool)
        advantage = advantages(reward, goes_on, never, (values[:-1], values[1:]), self.discount, self.trace)
        return advantage, advantage + values[:-1]


def _rule(lifetime: Lifetime) -> LifetimeValue:
    if not isinstance(lifetime.rule, LifetimeValue):
        raise ValueError(
            f"rule: LifetimeSurrogate needs a lifetime value, which a {type(lifetime.rule).__name__} has not; "
            "wrap it: LifetimeValue(base=...)"
        )
    return lifetime.rule


def _joined(rollouts: Rollout) -> tuple[Rollout, Float[Array, " steps"]]:
    """K consecutive rollouts as one, and the progress at each of its steps."""
    updates, steps = rollouts.reward.shape[:2]
    progress, lifetime = jnp.asarray(rollouts.progress), jnp.asarray(rollouts.lifetime)
    joined = jax.tree.map(
        lambda x: x.reshape((updates * steps, *x.shape[2:])), rollouts._replace(memory=(), progress=(), lifetime=())
    )
    return joined._replace(progress=progress[0], lifetime=lifetime[0]), jnp.repeat(progress, steps)
