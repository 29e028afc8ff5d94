"""Actor-critic on what an agent lived through: the objective where the agent itself is theta."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.losses import gae, normalised, policy_gradient, squared_error
from learned_rl.types import Policy, Rollout, Theta
from meta_objectives.problem import History
from truncation.problem import Segment


def plain(advantage: Float[Array, "T B"]) -> Float[Array, "T B"]:
    """Advantages as they are."""
    return advantage


@dataclass(frozen=True)
class HistoryActorCritic:
    """loss = -E[r] / scale per step of the segment's own data, differentiated as an actor-critic would (Duan 2016).

        value       -mean_t r_t / scale
        derivative  grad mean_t [ -w(A)_t log pi(a_t | h_t; params) - beta H(pi(. | h_t)) + c (V(h_t) - G_t)^2 / 2 ]

    with A by generalised advantage estimation on r / scale, from the agent's own head `value`, G = A + V, all of it
    data, and h the history since the memory was cleared: the gradient goes back through the memory to the beginning of
    the rollout. So a whole trial per update (`Trials`, and as many `steps`) is full backpropagation through time.

    Nothing is thrown away and nothing lived again: it judges the steps that the segment has. That is right for rules
    whose agents act with one and the same parameters all through it, as `RL2`'s. With the outer discount and trace at
    1, entropy and critic weights at 0 and w = `plain`, the derivative is unbiased for that of the value where rollouts
    are whole trials. (There is no reuse of data as in PPO: here a gradient on fresh data costs a third more than one on
    old data, and needs no ratio.)

    Policy and critic share a memory. With w = `normalised`, the default, both pull at it alike, whatever the unit of
    rewards; with `plain` the critic drowns the policy (bandits, five arms, ten pulls, the same number of steps: a
    return of 5.0, which is chance, instead of 6.5). `SamplingCorrected` needs `plain`: it adds to a derivative that is
    that of the value.

    Attributes:
      discount, trace: gamma and lambda, over the steps of a trial: its inner episodes do not end it.
      entropy: beta.
      critic: c.
      weigh: w, of the advantages of a rollout: `normalised` (zero mean, unit deviation) or `plain`.
      scale: divides rewards, to bring returns to order one: the critic's targets are r / scale.

    Raises:
      ValueError: a number out of range; or, when it judges, that the rule's agents have no head `value`.
    """

    discount: float = 1.0
    trace: float = 0.95
    entropy: float = 0.01
    critic: float = 0.5
    scale: float = 1.0
    weigh: Callable[[Array], Array] = normalised

    def __post_init__(self):
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is in [0, 1], not {getattr(self, name)}")
        if self.scale <= 0 or min(self.entropy, self.critic) < 0:
            raise ValueError(f"scale must be positive, entropy and critic at least 0: {self}")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: tuple[()], key: PRNGKeyArray
    ) -> tuple[Segment, tuple[()]]:
        if lifetime.rule.heads.flat.get("value") != 1:
            raise ValueError(f"rule: agents of a {type(lifetime.rule).__name__} have no head `value` of width 1")
        rollouts = jax.lax.stop_gradient(history.rollout)
        losses, entropy, error = jax.vmap(lambda r: self._losses(lifetime.policy, agent, r))(rollouts)
        loss = jnp.mean(losses)
        value = -jnp.mean(rollouts.reward) / self.scale
        metrics = {"history_entropy": jnp.mean(entropy), "critic_loss": jnp.mean(error)}
        return Segment(value + loss - jax.lax.stop_gradient(loss), metrics), ()

    def _losses(
        self, policy: Policy, agent: Agent, rollout: Rollout
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """The actor-critic loss of one rollout, and the entropy and the critic's error in it."""
        outputs = policy.unroll(agent.params, rollout)
        value = outputs.flat["value"][..., 0]
        following = policy.unroll_next(jax.lax.stop_gradient(agent.params), rollout).flat["value"][..., 0]
        scaled = rollout._replace(reward=rollout.reward / self.scale)
        advantage, target = jax.lax.stop_gradient(gae(scaled, value, following, self.discount, self.trace))
        entropy, error = jnp.mean(outputs.policy.entropy()), squared_error(value, target)
        loss = policy_gradient(outputs.policy.log_prob(rollout.action), self.weigh(advantage))
        return loss - self.entropy * entropy + self.critic * error, entropy, error
