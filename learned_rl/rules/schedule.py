"""Learned schedules: a rule's coefficients as functions of how the lifetime is going."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients, check_names, shifted
from learned_rl.rules.nested import fed, part
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta


class Statistics(NamedTuple):
    """What a schedule sees, beside progress; each of order one, none in units of reward."""

    base: RuleState
    entropy: Float[Array, ""]
    kl: Float[Array, ""]
    improvement: Float[Array, ""]
    fast_reward: Float[Array, ""]
    slow_reward: Float[Array, ""]
    reward_scale: Float[Array, ""]


@dataclass(frozen=True)
class Schedule:
    """Combinator: feeds `base` coefficients c(progress, statistics), anything from a constant to a feedback law.

        u = W2 tanh(W1 x + b1) + b2,   x = (progress, progress^2, entropy, KL of the last update, improvement of reward)

    and each coefficient that `learned` names is `base`'s, moved by its u on its own scale, at most by `reach` (see
    `coefficients.shifted`). It starts as exactly `base` (zero output layer), so that what is gained is learned.
    theta = {"schedule": ..., "base": the base rule's own}.

    Raises:
      ValueError: `learned` names something that is not a coefficient, or one twice, or `base` has none.
    """

    base: Rule = ActorCritic()
    hidden: int = 8
    learned: tuple[str, ...] = ("learning_rate", "discount", "trace", "entropy", "clip")
    reach: float = 4.0

    def __post_init__(self):
        part(self.base, "coefficients")
        check_names(self.learned)

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        key_schedule, key_base = jax.random.split(key)
        schedule = {
            "inward": jax.nn.initializers.lecun_normal()(key_schedule, (5, self.hidden)),
            "bias": jnp.zeros(self.hidden),
            "outward": jnp.zeros((self.hidden, len(self.learned))),
            "offset": jnp.zeros(len(self.learned)),
        }
        return {"schedule": schedule, "base": self.base.init(key_base)}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params, base = self.base.birth(theta["base"], policy, key)
        zero = jnp.zeros(())
        return params, Statistics(base, zero, zero, zero, zero, zero, jnp.asarray(1e-4, jnp.float32))

    def coefficients_at(self, theta: Theta, progress: Float[Array, ""], state: Statistics) -> Coefficients:
        """The schedule itself: what `base` is told at this moment of a life."""
        x = jnp.stack([progress, progress**2, state.entropy, state.kl, state.improvement])
        net = theta["schedule"]
        u = jnp.tanh(x @ net["inward"] + net["bias"]) @ net["outward"] + net["offset"]
        return shifted(part(self.base, "coefficients"), self.learned, u, self.reach)

    def update(
        self, theta: Theta, params: Params, state: Statistics, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, Statistics, Metrics]:
        coefficients = self.coefficients_at(theta, jnp.asarray(rollout.progress), state)
        told = fed(self.base, "coefficients", coefficients)
        new, base, metrics = told.update(theta["base"], params, state.base, rollout, policy, key)
        metrics = metrics | {f"schedule_{name}": getattr(coefficients, name) for name in self.learned}
        return new, self._observe(state, base, params, new, rollout, policy), metrics

    def _observe(
        self, state: Statistics, base: RuleState, params: Params, new: Params, rollout: Rollout, policy: Policy
    ) -> Statistics:
        """Statistics are data: no meta-gradient flows through what the schedule saw, only through what it did."""
        before, after = (policy.unroll(p, rollout).policy for p in (params, new))
        reward = jnp.mean(rollout.reward)
        fast = 0.7 * state.fast_reward + 0.3 * reward
        slow = 0.95 * state.slow_reward + 0.05 * reward
        scale = 0.95 * state.reward_scale + 0.05 * jnp.abs(reward - slow)
        seen = Statistics(
            base=(),
            entropy=jnp.mean(after.entropy()),
            kl=jnp.minimum(100.0 * jnp.mean(before.kl(after)), 5.0),
            improvement=jnp.tanh((fast - slow) / (3 * scale + 1e-6)),
            fast_reward=fast,
            slow_reward=slow,
            reward_scale=scale,
        )
        return jax.lax.stop_gradient(seen)._replace(base=base)
