"""What a life is still worth: the baseline of a lifetime's meta-gradient, learned beside the rule."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import LSTMState, linear, start_linear
from learned_rl.rules.intrinsic.history import before_birth, check, happened, read_on, start_history
from learned_rl.rules.intrinsic.reward import observed
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta


@dataclass(frozen=True)
class LifetimeValue:
    """Combinator: `base` as it is, and beside it V, the lifetime value function of Zheng et al. 2020.

        V_t = mean_b w relu(U (h_{t-1}, s_tb, progress) + u) + v,   h of a history network as in `LifetimeReward`

    V is learned over many lives, by the outer loop, like a reward: one life has a single lifetime return. So its
    parameters are in theta, {"base": the base rule's own, "value": V's}; but no agent learns anything from it. It is
    read by `meta_objectives.LifetimeSurrogate`, and what is deployed is `base` with theta["base"].

    Attributes:
      base: how the agent learns.
      hidden: width of the history network and of the layer after it.
      observation: room for an observation.
      action: room for an action; 0: it is not read.
    """

    base: Rule = Intrinsic()
    hidden: int = 64
    observation: int = 256
    action: int = 8

    def __post_init__(self):
        check(self)

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        key_base, key_history, key_inward = jax.random.split(key, 3)
        value = {
            "history": start_history(key_history, self.hidden, self.observation, self.action),
            "inward": start_linear(key_inward, self.hidden + self.observation + 1, self.hidden),
            "outward": {"w": jnp.zeros((self.hidden, 1)), "b": jnp.zeros(1)},
        }
        return {"base": self.base.init(key_base), "value": value}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        return self.base.birth(theta["base"], policy, key)

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        return self.base.update(theta["base"], params, state, rollout, policy, key)

    def unread(self) -> LSTMState:
        """The memory of a reader of a life that has not begun."""
        return before_birth(self.hidden)

    def values(
        self,
        theta: Theta,
        memory: LSTMState,
        rollout: Rollout,
        progress: Float[Array, " T+1"],
        obs: Float[Array, "B *obs"],
    ) -> tuple[Float[Array, " T+1"], LSTMState]:
        """V of every step of a rollout, before its action, and of the step after it; the memory before that one.

        Args:
          theta: the whole theta.
          memory: of what was before the rollout.
          rollout: T consecutive steps, of one update or of several.
          progress: at each of the T + 1 steps.
          obs: the last of the T + 1 observations: what will be acted on after the rollout.
        """
        net = theta["value"]
        x = happened(rollout, self.observation, self.action)
        _, after, following = read_on(net["history"], memory, x)
        before = jnp.concatenate([memory.hidden[None], after])
        here = observed(jnp.concatenate([rollout.obs, obs[None]]), self.observation)
        common = jnp.concatenate([before, progress[:, None]], axis=-1)
        common = jnp.broadcast_to(common[:, None], (*here.shape[:2], self.hidden + 1))
        seen = jax.nn.relu(linear(net["inward"], jnp.concatenate([common, here], axis=-1)))
        return jnp.mean(linear(net["outward"], seen)[..., 0], axis=1), following
