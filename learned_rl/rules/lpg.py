"""Learned Policy Gradient (Oh et al. 2020, "Discovering Reinforcement Learning Algorithms").

The rule neither has nor knows a value function. A reverse recurrent network reads a rollout and says, for every step,
how much more likely its action should be (pi_hat) and what the agent's prediction vector should have been (y_hat);
what the predictions *mean* is discovered.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.rollout import when
from learned_rl.types import Heads, Metrics, Outputs, Params, Policy, Rollout, RuleState, Theta


class Targets(NamedTuple):
    """What the rule asks of the agent.

    Attributes:
      policy: pi_hat, `[T, B]`.
      prediction: y_hat, a distribution over `predictions` bins, `[T, B, m]`.
    """

    policy: Float[Array, "T B"]
    prediction: Float[Array, "T B m"]


class _TargetNetwork(nn.Module):
    """Inputs `[T, n]` of one stream, in the order of time -> `(pi_hat [T], y_hat logits [T, m])`."""

    hidden: int
    predictions: int

    @nn.compact
    def __call__(self, inputs, y, next_y, last) -> Any:
        embed = nn.Sequential([nn.Dense(16, name="embed_0"), nn.relu, nn.Dense(1, name="embed_1")])
        x = jnp.concatenate([inputs, embed(y), embed(next_y)], axis=-1)
        x = self._backwards(x, last)
        return nn.Dense(1, kernel_init=nn.initializers.zeros, name="policy")(x)[..., 0], nn.Dense(
            self.predictions, name="prediction"
        )(x)

    def _backwards(self, x, last) -> Array:
        cell = nn.OptimizedLSTMCell(self.hidden, name="lstm")
        zero = jax.tree.map(lambda c: c.astype(x.dtype), cell.initialize_carry(jax.random.key(0), x.shape[1:]))

        def step(cell, carry, inputs):
            x_t, last_t = inputs
            # Backwards in time: what comes after an episode's end is another episode.
            carry = jax.tree.map(lambda c, z: jnp.where(last_t, z, c), carry, zero)
            return cell(carry, x_t)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, reverse=True)
        return scan(cell, zero, (x, last))[1]


@dataclass(frozen=True)
class LPG:
    """The rule `lpg`. theta: the reverse LSTM, its embeddings and its two heads.

        x_t = [r_t, d_t, gamma, pi(a_t|s_t), phi(y(s_t)), phi(y(s_{t+1}))]                       (section 3.2)
        L(params) = E[ -pi_hat log pi(a) + alpha_y KL(y || y_hat) ]  with pi_hat, y_hat constant  (eq. 2)

    It reads the probability of the action that was taken and nothing else of the policy, so it neither knows nor cares
    how many actions there are, or what an observation is.

    Departures: the paper lets the recurrence run through episode ends (the discount input tells them), here it is cut
    there, as V-trace would be; s_{t+1} is the observation before a reset. For real actions pi(a|s) is a density and is
    squashed by p / (1 + p); the paper has discrete actions only. The policy-entropy bonus of the paper's *outer* loss
    is a meta-objective's business.

    Attributes:
      temporal: whether x_t ends with n / N and log N, for n of N updates of the life: TA-LPG (Jackson et al. 2024,
        "Discovering Temporally-Aware Reinforcement Learning Algorithms"). What it learns is then a schedule too.
    """

    predictions: int = 30
    hidden: int = 256
    discount: float = 0.99
    prediction_cost: float = 0.5
    learning_rate: float = 3e-3
    optimizer: InnerOptimizer = Adam()
    temporal: bool = False

    @property
    def heads(self) -> Heads:
        return Heads(flat={"prediction": self.predictions})

    @property
    def _network(self) -> _TargetNetwork:
        return _TargetNetwork(self.hidden, self.predictions)

    def init(self, key: PRNGKeyArray) -> Theta:
        steps, inputs, m = 2, 6 if self.temporal else 4, self.predictions
        return self._network.init(
            key, jnp.zeros((steps, inputs)), jnp.zeros((steps, m)), jnp.zeros((steps, m)), jnp.zeros(steps, bool)
        )["params"]

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params = policy.init(key)
        return params, self.optimizer.init(params)

    def targets(self, theta: Theta, rollout: Rollout, outputs: Outputs, following: Outputs) -> Targets:
        """pi_hat and y_hat for a rollout, given the agent's outputs at `obs` and at `next_obs`."""
        log_prob = outputs.policy.log_prob(rollout.action)
        real_actions = jnp.issubdtype(rollout.action.dtype, jnp.floating)
        probability = jax.nn.sigmoid(log_prob) if real_actions else jnp.exp(log_prob)
        gamma = jnp.full_like(rollout.reward, self.discount)
        inputs = jnp.stack([rollout.reward, rollout.discount, gamma, probability], axis=-1)
        if self.temporal:
            now = jnp.broadcast_to(when(rollout), (*gamma.shape, 2))
            inputs = jnp.concatenate([inputs, now], axis=-1)
        y, next_y = (jax.nn.softmax(out.flat["prediction"]) for out in (outputs, following))

        def stream(inputs, y, next_y, last) -> Any:
            return self._network.apply({"params": theta}, inputs, y, next_y, last)

        policy, prediction = jax.vmap(stream, in_axes=1, out_axes=1)(inputs, y, next_y, rollout.last)
        return Targets(policy, jax.nn.softmax(prediction))

    def loss(self, params: Params, targets: Targets, rollout: Rollout, policy: Policy) -> Float[Array, ""]:
        """Eq. 2 as a loss; `targets` are data to it."""
        outputs = policy.unroll(params, rollout)
        log_y = jax.nn.log_softmax(outputs.flat["prediction"])
        kl = jnp.sum(jnp.exp(log_y) * (log_y - jnp.log(targets.prediction + 1e-8)), axis=-1)
        log_prob = outputs.policy.log_prob(rollout.action)
        return jnp.mean(-targets.policy * log_prob + self.prediction_cost * kl)

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        del key
        outputs, following = policy.unroll(params, rollout), policy.unroll_next(params, rollout)
        targets = self.targets(theta, rollout, outputs, following)
        gradient = jax.grad(self.loss)(params, targets, rollout, policy)
        params, state = self.optimizer.update(gradient, state, params, self.learning_rate)
        y_entropy = -jnp.sum(targets.prediction * jnp.log(targets.prediction + 1e-8), axis=-1)
        return (
            params,
            state,
            {
                "entropy": jnp.mean(outputs.policy.entropy()),
                "policy_target_square": jnp.mean(targets.policy**2),
                "prediction_target_square": jnp.mean(jnp.sum(targets.prediction**2, axis=-1)),
                "prediction_target_entropy": jnp.mean(y_entropy),
            },
        )
