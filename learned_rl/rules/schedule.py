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

USUAL_KL = 0.01  # nats; where a schedule's input is zero
FAST, SLOW = 0.7, 0.95  # decay of averages, per update
ROUNDING, TINY = 1e-5, 1e-12  # relative to rewards, of which a constant one never changes; and where all are zero


class Statistics(NamedTuple):
    """What a schedule sees, beside progress; none in units of reward.

    Attributes:
      entropy: of the policy, in nats.
      kl: KL(before || after) of the policies before and after the last update, in nats; `USUAL_KL` until there is one.
      improvement: of rewards lately over those of longer ago, in units of their usual change; in [-1, 1].
      signal: how large rewards are lately, tanh(3 mean / standard deviation) of a step's.
    """

    entropy: Float[Array, ""]
    kl: Float[Array, ""]
    improvement: Float[Array, ""]
    signal: Float[Array, ""]


class Rewards(NamedTuple):
    """Running averages over rollouts, from zero; those of `Statistics` are corrected for that.

    Attributes:
      fast, slow: of the mean reward of a step, with decay `FAST` and `SLOW`.
      change: of its distance from the slow one, slowly.
      ratio: of that mean over the standard deviation, squashed, fast.
      rollouts: how many there were.
    """

    fast: Float[Array, ""]
    slow: Float[Array, ""]
    change: Float[Array, ""]
    ratio: Float[Array, ""]
    rollouts: Float[Array, ""]

    def observe(self, reward: Float[Array, "T B"]) -> "Rewards":
        """After another rollout."""
        mean, rollouts = jnp.mean(reward), self.rollouts + 1
        slow = SLOW * self.slow + (1 - SLOW) * mean
        change = jnp.abs(mean - slow / (1 - SLOW**rollouts))
        ratio = jnp.tanh(3 * mean / (jnp.std(reward) + ROUNDING * jnp.abs(mean) + TINY))
        return Rewards(
            fast=FAST * self.fast + (1 - FAST) * mean,
            slow=slow,
            change=SLOW * self.change + (1 - SLOW) * change,
            ratio=FAST * self.ratio + (1 - FAST) * ratio,
            rollouts=rollouts,
        )

    @property
    def improvement(self) -> Float[Array, ""]:
        """tanh of (fast - slow) / (3 change)."""
        late, early = 1 - FAST**self.rollouts, 1 - SLOW**self.rollouts
        fast, slow, change = self.fast / late, self.slow / early, self.change / early
        return jnp.tanh((fast - slow) / (3 * change + ROUNDING * jnp.abs(slow) + TINY))

    @property
    def signal(self) -> Float[Array, ""]:
        """The average of tanh(3 mean / standard deviation)."""
        return self.ratio / (1 - FAST**self.rollouts)


class Watched(NamedTuple):
    """The state of a scheduled life: the base rule's own, what the schedule sees now, and what that is made of."""

    base: RuleState
    seen: Statistics
    rewards: Rewards


@dataclass(frozen=True)
class Schedule:
    """Combinator: feeds `base` coefficients c(progress, statistics), anything from a constant to a feedback law.

        u = W2 tanh(W1 x + b1) + b2
        x = (progress, log(0.01 + progress) / log 0.01, entropy, log10(KL / USUAL_KL) / 2, improvement, signal)

    and each coefficient that `learned` names is `base`'s, moved by its u on its own scale, at most by `reach` (see
    `coefficients.shifted`). It starts as exactly `base` (zero output layer), so that what is gained is learned. Age is
    there twice because most happens early, where a line is flat; of the KL its order of magnitude counts. The rest of
    x: `Statistics`.
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
            "inward": jax.nn.initializers.lecun_normal()(key_schedule, (6, self.hidden)),
            "bias": jnp.zeros(self.hidden),
            "outward": jnp.zeros((self.hidden, len(self.learned))),
            "offset": jnp.zeros(len(self.learned)),
        }
        return {"schedule": schedule, "base": self.base.init(key_base)}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params, base = self.base.birth(theta["base"], policy, key)
        zero = jnp.zeros(())
        seen = Statistics(zero, jnp.asarray(USUAL_KL, jnp.float32), zero, zero)
        return params, Watched(base, seen, Rewards(*[zero] * 5))

    def coefficients_at(self, theta: Theta, progress: Float[Array, ""], seen: Statistics) -> Coefficients:
        """The schedule itself: what `base` is told at this moment of a life."""
        age = jnp.log(0.01 + progress) / jnp.log(0.01)
        kl = jnp.log10(jnp.clip(seen.kl, 1e-6, 1e2) / USUAL_KL) / 2
        x = jnp.stack([progress, age, seen.entropy, kl, seen.improvement, seen.signal])
        net = theta["schedule"]
        u = jnp.tanh(x @ net["inward"] + net["bias"]) @ net["outward"] + net["offset"]
        return shifted(part(self.base, "coefficients"), self.learned, u, self.reach)

    def update(
        self, theta: Theta, params: Params, state: Watched, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, Watched, Metrics]:
        coefficients = self.coefficients_at(theta, jnp.asarray(rollout.progress), state.seen)
        told = fed(self.base, "coefficients", coefficients)
        new, base, metrics = told.update(theta["base"], params, state.base, rollout, policy, key)
        metrics = metrics | {f"schedule_{name}": getattr(coefficients, name) for name in self.learned}
        # Statistics are data: no meta-gradient flows through what the schedule saw, only through what it did.
        seen, rewards = jax.lax.stop_gradient(_watch(state.rewards, params, new, rollout, policy))
        return new, Watched(base, seen, rewards), metrics


def _watch(
    rewards: Rewards, params: Params, new: Params, rollout: Rollout, policy: Policy
) -> tuple[Statistics, Rewards]:
    before, after = (policy.unroll(p, rollout).policy for p in (params, new))
    rewards = rewards.observe(rollout.reward)
    kl = jnp.mean(before.kl(after))
    return Statistics(jnp.mean(after.entropy()), kl, rewards.improvement, rewards.signal), rewards
