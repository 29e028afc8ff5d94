"""A learned objective in the manner of MetaGenRL (Kirsch et al. 2020, "Improving Generalization in Meta Reinforcement
Learning using Learned Objectives"): the rule is a loss, and the agent's policy goes down its gradient."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import lstm_backwards, mlp, start_linear, start_lstm, start_mlp
from learned_rl.losses import gae, squared_error
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.rules.averages import MovingAverage
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta


class Seen(NamedTuple):
    """What the objective reads of a rollout, beside the policy; data, each `[T, B]`.

    Attributes:
      reward, value, next_value: in units of their own moving averages; `next_value` is 0 where the task terminated.
      time: t / T.
      target: lambda-return, what the critic learns; not shown to the objective.
    """

    reward: Float[Array, "T B"]
    value: Float[Array, "T B"]
    next_value: Float[Array, "T B"]
    time: Float[Array, "T B"]
    target: Float[Array, "T B"]


class MetaGenRLState(NamedTuple):
    """What the rule remembers: moving averages of rewards and values, and the optimizer's moments."""

    rewards: MovingAverage
    values: MovingAverage
    optimizer: RuleState


@dataclass(frozen=True)
class MetaGenRL:
    """The rule `metagenrl`. theta: a reverse LSTM between two small networks, which are the objective.

        x_t = [log pi(a_t|s_t), r_t, t / T, d_t V(s_{t+1}), V(s_t)]
        h_t = LSTM(embed(x_t), h_{t+1}),   begun anew at episode ends
        L_theta = E[ bound tanh(e(h_t) / bound) ]                                               (section 4, L_alpha)
        params <- params - learning_rate d/dparams ( L_theta + value_cost E[(V - G)^2] / 2 )

    The gradient flows through log pi alone: rewards and values are data, and the critic V, a head of the agent, learns
    by TD(lambda) what it always would. So the objective says what to make of values, not what values are, and it knows
    neither how many actions there are nor what an observation is. Rewards and values are standardised by moving
    averages over the agent's life, so that it knows no unit of reward either.

    Departures. The paper's agents act deterministically with noise, and its objective reads the action taken and the
    action that the policy would take, pi(s_t); its outer loop improves theta by the gradient of an off-policy critic
    Q(s, pi(s)) after one step (DDPG), from a replay. Here policies are distributions, the objective reads the
    log-probability of what was done, a rollout is learned from once, and the outer loop is the project's: a
    meta-gradient through any number of updates with an outer critic (`PolicyGradientSurrogate`), or an evolution
    strategy. The last layer starts at zero: untrained, the rule trains a critic and leaves the policy alone.

    Of `coefficients`, the learning rate, discount, trace and value cost are used.

    Attributes:
      hidden: width of the LSTM and of the layers about it.
      bound: of the objective of a step, in either direction (published: 1000).
      decay: of the moving averages.
    """

    hidden: int = 32
    bound: float = 1000.0
    decay: float = 0.99
    coefficients: Coefficients = Coefficients()
    optimizer: InnerOptimizer = Adam()
    heads = Heads(flat={"value": 1})

    def init(self, key: PRNGKeyArray) -> Theta:
        keys = jax.random.split(key, 3)
        return {
            "embed": start_mlp(keys[0], 5, self.hidden, self.hidden // 2 or 1),
            "lstm": start_lstm(keys[1], self.hidden // 2 or 1, self.hidden),
            "inward": start_linear(keys[2], self.hidden, self.hidden),
            "outward": jnp.zeros(self.hidden),
        }

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params = policy.init(key)
        return params, MetaGenRLState(MovingAverage.start(), MovingAverage.start(), self.optimizer.init(params))

    def update(
        self, theta: Theta, params: Params, state: MetaGenRLState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, MetaGenRLState, Metrics]:
        del key
        seen, state = self._look(params, state, rollout, policy)
        gradient, metrics = jax.grad(self._loss, has_aux=True)(params, theta, seen, rollout, policy)
        params, moments = self.optimizer.update(gradient, state.optimizer, params, self.coefficients.learning_rate)
        return params, state._replace(optimizer=moments), metrics

    def _look(
        self, params: Params, state: MetaGenRLState, rollout: Rollout, policy: Policy
    ) -> tuple[Seen, MetaGenRLState]:
        c = self.coefficients
        value = policy.unroll(params, rollout).flat["value"][..., 0]
        next_value = policy.unroll_next(params, rollout).flat["value"][..., 0]
        _, target = gae(rollout, value, next_value, c.discount, c.trace)
        # Statistics are data; and the derivative of a deviation near zero is no number to multiply by.
        rewards, values = jax.lax.stop_gradient(
            (state.rewards.observe(rollout.reward, self.decay), state.values.observe(value, self.decay))
        )
        steps = rollout.reward.shape[0]
        time = jnp.broadcast_to(jnp.arange(steps, dtype=jnp.float32)[:, None] / steps, rollout.reward.shape)
        seen = Seen(
            reward=rewards.standardise(rollout.reward),
            value=values.standardise(value),
            next_value=rollout.discount * values.standardise(next_value),
            time=time,
            target=target,
        )
        return seen, state._replace(rewards=rewards, values=values)

    def objective(
        self, theta: Theta, log_prob: Float[Array, "T B"], seen: Seen, rollout: Rollout
    ) -> Float[Array, "T B"]:
        """What every step costs, given the log-probabilities of what was done; the learned part of the loss."""
        x = jnp.stack([log_prob, seen.reward, seen.time, seen.next_value, seen.value], axis=-1)
        after = lstm_backwards(theta["lstm"], mlp(theta["embed"], x), rollout.last)
        cost = mlp([theta["inward"], {"w": theta["outward"][:, None], "b": jnp.zeros(1)}], after)[..., 0]
        return self.bound * jnp.tanh(cost / self.bound)

    def _loss(
        self, params: Params, theta: Theta, seen: Seen, rollout: Rollout, policy: Policy
    ) -> tuple[Float[Array, ""], Metrics]:
        outputs = policy.unroll(params, rollout)
        cost = self.objective(theta, outputs.policy.log_prob(rollout.action), seen, rollout)
        value_loss = squared_error(outputs.flat["value"][..., 0], seen.target)
        metrics = {
            "entropy": jnp.mean(outputs.policy.entropy()),
            "value_loss": value_loss,
            "objective": jnp.mean(cost),
        }
        return jnp.mean(cost) + self.coefficients.value_cost * value_loss, metrics
