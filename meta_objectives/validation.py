"""The differentiable judgement of meta-gradients: a policy-gradient surrogate on fresh data."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.losses import gae, normalised, policy_gradient, squared_error
from learned_rl.networks import Network
from learned_rl.optimizers import Adam
from learned_rl.types import Heads, Params, Policy, Rollout, Theta
from meta_objectives.problem import History
from truncation.problem import Segment


class Critic(NamedTuple):
    """The outer critic of one life."""

    params: Params
    moments: Any


@dataclass(frozen=True)
class PolicyGradientSurrogate:
    """loss = -E[A log pi(a | s; params)] on steps that the *adapted* parameters just took (Xu et al. 2018, eq. 5).

    d loss / d params is the policy gradient of the adapted agent, and the estimator carries it on to theta. The
    advantage comes from an outer critic with the outer discount (Bonnet et al. 2022: the inner one's is biased towards
    what the inner discount likes; a rule such as LPG has none at all). The critic lives as long as the agent and is
    trained on the same validation steps, after they were judged. It carries no meta-gradient.

    The steps are taken from where the streams stand and are thrown away: judging changes nothing in the life.

    Attributes:
      discount, trace: gamma and lambda of the outer GAE.
      entropy: weight of the entropy of the adapted policy (beta_0 of Oh et al. 2020, eq. 4); it keeps rules from
        collapsing policies early.
      policy_target, prediction_target: weights of the mean squares of the rule's targets (beta_2 and beta_3 there);
        applied where the rule reports them.
      critic: network of the outer critic; its head is the value.
      critic_rate, critic_epochs: Adam's learning rate and gradient steps per judgement.
    """

    discount: float = 0.99
    trace: float = 0.95
    entropy: float = 0.01
    policy_target: float = 0.0
    prediction_target: float = 0.0
    critic: Network = Network()
    critic_rate: float = 3e-3
    critic_epochs: int = 4

    def _critic(self, lifetime: Lifetime) -> Policy:
        return self.critic.build(lifetime.tasks.obs_shape, lifetime.tasks.actions, Heads(flat={"value": 1}))

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Critic:
        params = self._critic(lifetime).init(key)
        return Critic(params, Adam().init(params))

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Critic, key: PRNGKeyArray
    ) -> tuple[Segment, Critic]:
        # Fresh data: what the adapted parameters do is data too; only its log-probability below is differentiated.
        _, rollout = lifetime.act(jax.lax.stop_gradient(agent), key)
        critic = self._critic(lifetime)
        advantage, target = self._advantage(critic, state.params, rollout)
        outputs = lifetime.policy.unroll(agent.params, rollout)
        entropy = jnp.mean(outputs.policy.entropy())
        loss = policy_gradient(outputs.policy.log_prob(rollout.action), normalised(advantage))
        loss = loss - self.entropy * entropy + self._target_cost(history)
        state, critic_loss = self._train(critic, state, rollout, target)
        return Segment(loss, {"validation_entropy": entropy, "critic_loss": critic_loss}), state

    def _advantage(self, critic: Policy, params: Params, rollout: Rollout) -> tuple[Array, Array]:
        """Two values: at every step, and after it. All of it is data."""
        rollout = rollout._replace(memory=())
        value = critic.unroll(params, rollout).flat["value"][..., 0]
        following = critic.unroll_next(params, rollout).flat["value"][..., 0]
        return jax.lax.stop_gradient(gae(rollout, value, following, self.discount, self.trace))

    def _target_cost(self, history: History) -> Float[Array, ""] | float:
        costs = {"policy_target_square": self.policy_target, "prediction_target_square": self.prediction_target}
        return sum((w * jnp.mean(history.metrics[k]) for k, w in costs.items() if k in history.metrics), start=0.0)

    def _train(self, critic: Policy, state: Critic, rollout: Rollout, target: Array) -> tuple[Critic, Array]:
        def loss(params: Params) -> Float[Array, ""]:
            value = critic.unroll(params, rollout._replace(memory=())).flat["value"][..., 0]
            return squared_error(value, target)

        def step(state: Critic, _):
            error, gradient = jax.value_and_grad(loss)(state.params)
            params, moments = Adam().update(gradient, state.moments, state.params, self.critic_rate)
            return Critic(params, moments), error

        # The inputs are constants, so the trained critic is one too.
        state, errors = jax.lax.scan(step, jax.lax.stop_gradient(state), length=self.critic_epochs)
        return state, errors[0]
