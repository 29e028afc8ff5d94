"""The differentiable judgements of meta-gradients: policy gradients of the adapted agent on fresh data.

Both take fresh steps from where the streams stand and throw them away: judging changes nothing in the life. What the
adapted parameters do is data too; only its log-probability is differentiated.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.losses import normalised, policy_gradient
from learned_rl.types import Theta
from meta_objectives.outer_critic import Critic, OuterCritic
from meta_objectives.problem import History
from truncation.problem import Segment


@dataclass(frozen=True)
class PolicyGradientSurrogate:
    """loss = -E[A log pi(a | s; params)] on steps that the *adapted* parameters just took (Xu et al. 2018, eq. 5).

    d loss / d params is the policy gradient of the adapted agent, and the estimator carries it on to theta. The
    advantage comes from an outer critic (Bonnet et al. 2022), normalised over the batch. Only the derivative of this
    loss means something: its value is not what is lowered (`ValidationReturn` is the objective where it is).

    Attributes:
      critic: the outer critic, with the outer discount.
      entropy: weight of the entropy of the adapted policy (beta_0 of Oh et al. 2020, eq. 4); it keeps rules from
        collapsing policies early.
      policy_target, prediction_target: weights of the mean squares of the rule's targets (beta_2 and beta_3 there);
        applied where the rule reports them.
    """

    critic: OuterCritic = OuterCritic()
    entropy: float = 0.01
    policy_target: float = 0.0
    prediction_target: float = 0.0

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Critic:
        return self.critic.start(lifetime, key)

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Critic, key: PRNGKeyArray
    ) -> tuple[Segment, Critic]:
        _, rollout = lifetime.act(jax.lax.stop_gradient(agent), key)
        advantage, target = self.critic.advantage(lifetime, state, rollout)
        outputs = lifetime.policy.unroll(agent.params, rollout)
        entropy = jnp.mean(outputs.policy.entropy())
        loss = policy_gradient(outputs.policy.log_prob(rollout.action), normalised(advantage))
        loss = loss - self.entropy * entropy + self._target_cost(history)
        state, critic_loss = self.critic.train(lifetime, state, rollout, target)
        return Segment(loss, {"validation_entropy": entropy, "critic_loss": critic_loss}), state

    def _target_cost(self, history: History) -> Float[Array, ""] | float:
        costs = {"policy_target_square": self.policy_target, "prediction_target_square": self.prediction_target}
        return sum((w * jnp.mean(history.metrics[k]) for k, w in costs.items() if k in history.metrics), start=0.0)


@dataclass(frozen=True)
class ValidationReturn:
    """loss = -E[r] / scale per step, on steps that the *adapted* parameters just took: value and derivative both count.

        value       -mean_t r_t
        derivative  -mean_t A'_t grad log pi(a_t | s_t; params),   A' from an outer critic, not normalised

    The derivative is the gradient of the value's expectation where each step is an episode of its own; elsewhere it is
    that gradient up to what the policy-gradient theorem on the visited states leaves out, which vanishes as the outer
    discount goes to 1 (Baxter & Bartlett 2001). So this is the differentiable judgement for whatever reads the value as
    well: `SamplingCorrected`, `Telescoped`, evolution strategies beside meta-gradients.

    Attributes:
      critic: the outer critic: V' is a baseline before it is trained on the same steps, so it adds no bias by that.
      scale: divides the reward, to bring a task family's losses to order one.
    """

    critic: OuterCritic = OuterCritic()
    scale: float = 1.0

    def __post_init__(self):
        if self.scale <= 0:
            raise ValueError(f"scale={self.scale} must be positive")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Critic:
        return self.critic.start(lifetime, key)

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Critic, key: PRNGKeyArray
    ) -> tuple[Segment, Critic]:
        _, rollout = lifetime.act(jax.lax.stop_gradient(agent), key)
        advantage, target = self.critic.advantage(lifetime, state, rollout)
        outputs = lifetime.policy.unroll(agent.params, rollout)
        surrogate = policy_gradient(outputs.policy.log_prob(rollout.action), advantage)
        loss = -jnp.mean(rollout.reward) + surrogate - jax.lax.stop_gradient(surrogate)
        state, critic_loss = self.critic.train(lifetime, state, rollout, target)
        return Segment(loss / self.scale, {"critic_loss": critic_loss}), state
