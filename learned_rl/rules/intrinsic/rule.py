"""The combinator: any rule, told another reward than the task's."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.intrinsic.learned import LifetimeReward
from learned_rl.rules.intrinsic.reward import IntrinsicReward
from learned_rl.types import Heads, Memory, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta

_NOTHING = {"base": (), "reward": ()}


class IntrinsicState(NamedTuple):
    """What the rule inside remembers, and what the reward remembers of the agent's life."""

    base: RuleState
    reward: Memory


@dataclass(frozen=True)
class Intrinsic:
    """Combinator: `base` learns from w_ext r + w_int r_in instead of the task's reward r.

        r_in_t = R_theta(all that this agent has lived through, up to what step t led to)

    The agent never sees r_in but through what it learns from it, and the outer loop judges by r alone. For a learned
    R the meta-gradient goes through the returns and advantages that `base` makes of the reward, as far as `base` is
    differentiable in it (a2c, ppo, lpg are). The reward's memory is part of the rule's state: it is carried from update
    to update and from episode to episode, and so is the meta-gradient, within an estimator's window.

    theta = {"base": the base rule's own, "reward": R's}, or () if neither has any. Settings of the papers:
    r + lambda r_in in Zheng et al. 2018 (LIRPG), in bonuses and in RND with one value head; r_in alone
    (`extrinsic=0`) in Zheng et al. 2020, where R sees r. Whatever a combinator *inside* makes of rewards, such as the
    statistics of a `Schedule`, it makes of the mixed one; one *around* sees the task's.

    Attributes:
      base: how the agent learns.
      reward: R, see `IntrinsicReward`.
      extrinsic: w_ext.
      intrinsic: w_int, the beta of bonuses.
    """

    base: Rule = ActorCritic()
    reward: IntrinsicReward = LifetimeReward()
    extrinsic: float = 1.0
    intrinsic: float = 1.0

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        key_base, key_reward = jax.random.split(key)
        theta = {"base": self.base.init(key_base), "reward": self.reward.init(key_reward)}
        return theta if jax.tree.leaves(theta) else ()

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, IntrinsicState]:
        theta = theta or _NOTHING
        key_base, key_reward = jax.random.split(key)
        params, base = self.base.birth(theta["base"], policy, key_base)
        return params, IntrinsicState(base, self.reward.start(theta["reward"], policy, key_reward))

    def update(
        self, theta: Theta, params: Params, state: IntrinsicState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, IntrinsicState, Metrics]:
        theta = theta or _NOTHING
        paid, memory = self.reward.pay(theta["reward"], state.reward, rollout)
        told = rollout._replace(reward=self.extrinsic * rollout.reward + self.intrinsic * paid)
        params, base, metrics = self.base.update(theta["base"], params, state.base, told, policy, key)
        metrics = metrics | {"intrinsic_reward": jnp.mean(paid), "intrinsic_reward_std": jnp.std(paid)}
        return params, IntrinsicState(base, memory), metrics
