"""Mirror learning with a drift: PPO, DPO and Learned Policy Optimisation are one rule with different drifts.

Lu et al. 2022 ("Discovered Policy Optimisation", eq. 3) write a policy update as the maximisation of

    E[ r A - f(r, A) ],      r = pi(a|s) / mu(a|s)

with a drift f >= 0, f = 0 and df/dr = 0 at r = 1. PPO's clip is such a drift, DPO is a closed form that was read off a
learned one, and LPO's is a network. Here f is a field.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_rl.losses import gae, normalised
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.rollout import over_steps, when
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta

Numbers = Float[Array, "..."]


NEVER = (0.0, 0.0)


class DriftFunction(Protocol):
    """f(r, A), elementwise. Takes log r: at r = 1 it is exact, and it is what the data give.

    `now` is (n / N, log N), see `learned_rl.rollout.when`; a drift may change over a lifetime.
    """

    def init(self, key: PRNGKeyArray) -> Theta: ...

    def __call__(
        self, theta: Theta, log_ratio: Numbers, advantage: Numbers, clip: Any, now: Any = NEVER
    ) -> Numbers: ...


@dataclass(frozen=True)
class ClipDrift:
    """PPO's: f = relu((r - clip(r, 1 - eps, 1 + eps)) A), so that r A - f = min(r A, clip(r) A) exactly."""

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def __call__(self, theta, log_ratio, advantage, clip, now=NEVER):
        ratio = jnp.exp(log_ratio)
        return jax.nn.relu((ratio - jnp.clip(ratio, 1 - clip, 1 + clip)) * advantage)


@dataclass(frozen=True)
class DiscoveredDrift:
    """DPO's (Lu et al. 2022, eq. 7), with its published constants.

    f = relu((r - 1) A - alpha tanh((r - 1) A / alpha))  for A >= 0
    f = relu(log(r) A - beta tanh(log(r) A / beta))      for A < 0
    """

    alpha: float = 2.0
    beta: float = 0.6

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def __call__(self, theta, log_ratio, advantage, clip, now=NEVER):
        up, down = (jnp.exp(log_ratio) - 1) * advantage, log_ratio * advantage
        positive = jax.nn.relu(up - self.alpha * jnp.tanh(up / self.alpha))
        negative = jax.nn.relu(down - self.beta * jnp.tanh(down / self.beta))
        return jnp.where(advantage >= 0, positive, negative)


@dataclass(frozen=True)
class LearnedDrift:
    """LPO's: f = relu(base + N_theta(x) - 1e-4), x = [log r, (log r)^2, 1 - r, (1 - r)^2] times (1, A).

    N has one tanh layer and no biases (the published code's architecture), so N = 0 at r = 1 and the drift
    conditions hold for every theta: the 1e-4 keeps f = 0 in a neighbourhood. It starts from a zero output layer:
    untrained, it *is* `base` but for that 1e-4 (the paper starts from small random weights).

    With `temporal`, x is x times (1, n / N, log N) for n of N updates of the life: TA-LPO (Jackson et al. 2024). A
    product, not inputs of their own: those would not vanish at r = 1, and the drift conditions hold at every time.
    """

    hidden: int = 128
    base: ClipDrift | DiscoveredDrift = ClipDrift()
    temporal: bool = False

    def init(self, key: PRNGKeyArray) -> Theta:
        inward = jax.nn.initializers.lecun_normal()(key, (24 if self.temporal else 8, self.hidden))
        return {"inward": inward, "outward": jnp.zeros((self.hidden,))}

    def __call__(self, theta, log_ratio, advantage, clip, now=NEVER):
        ratio = jnp.exp(log_ratio)
        x = jnp.stack([log_ratio, log_ratio**2, 1 - ratio, (1 - ratio) ** 2], axis=-1)
        x = jnp.concatenate([x, x * advantage[..., None]], axis=-1)
        if self.temporal:
            x = jnp.concatenate([x, x * now[0], x * now[1]], axis=-1)
        learned = jnp.tanh(x @ theta["inward"]) @ theta["outward"]
        return jax.nn.relu(self.base((), log_ratio, advantage, clip) + learned - 1e-4)


class Batch(NamedTuple):
    """A rollout with the targets it was given before the first epoch; every field `[T, B, ...]`."""

    rollout: Rollout
    advantage: Float[Array, "T B"]
    target: Float[Array, "T B"]
    value: Float[Array, "T B"]

    def over_steps(self, function: Callable[[Array], Array]) -> "Batch":
        """With `function` applied to all leaves `[T, B, ...]`, see `learned_rl.rollout.over_steps`."""
        targets = (function(self.advantage), function(self.target), function(self.value))
        return Batch(over_steps(function, self.rollout), *targets)


@dataclass(frozen=True)
class Drift:
    """`epochs` passes over a rollout in `minibatches` shuffled parts, maximising r A - f(r, A).

    `Drift()` is PPO (Schulman et al. 2017) with the details of its reference code: advantages normalised per minibatch,
    clipped value loss, Adam with eps 1e-5, gradient norm 0.5, and the learning rate annealed to zero over a lifetime if
    `anneal`. Built in as `ppo` and `dpo`; `drift` is the learned one.

    Raises:
      ValueError: `minibatches` does not divide what there is to share out (steps x streams; streams with a memory).
    """

    drift: DriftFunction = ClipDrift()
    coefficients: Coefficients = Coefficients()
    optimizer: InnerOptimizer = Adam()
    epochs: int = 4
    minibatches: int = 4
    anneal: bool = False
    heads = Heads(flat={"value": 1})

    def init(self, key: PRNGKeyArray) -> Theta:
        return self.drift.init(key)

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params = policy.init(key)
        return params, self.optimizer.init(params)

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        coefficients = self.coefficients
        # The probabilities that acted are no data: they move with the parameters that acted. Held constant, the first
        # step would be differentiated as DiCE's is, with a score term that `SamplingCorrected` would count again.
        learning_rate = coefficients.learning_rate * (1.0 - self.anneal * jnp.asarray(rollout.progress))
        batch = as_samples(self._prepare(coefficients, params, rollout, policy))

        def minibatch(carry, chosen: Array):
            params, state = carry
            part = take(batch, chosen)  # here and not before the loop: the shuffled copy is never written down
            gradient, metrics = jax.grad(self._loss, has_aux=True)(params, theta, coefficients, part, policy)
            return self.optimizer.update(gradient, state, params, learning_rate), metrics

        def epoch(carry, key):
            return jax.lax.scan(minibatch, carry, shuffled(batch.advantage.shape[1], self.minibatches, key))

        (params, state), metrics = jax.lax.scan(epoch, (params, state), jax.random.split(key, self.epochs))
        return params, state, jax.tree.map(jnp.mean, metrics)

    def _prepare(self, c: Coefficients, params: Params, rollout: Rollout, policy: Policy) -> Batch:
        value = policy.unroll(params, rollout).flat["value"][..., 0]
        next_value = policy.unroll_next(params, rollout).flat["value"][..., 0]
        advantage, target = gae(rollout, value, next_value, c.discount, c.trace)
        return Batch(rollout, advantage, target, value)

    def _loss(
        self, params: Params, theta: Theta, c: Coefficients, batch: Batch, policy: Policy
    ) -> tuple[Float[Array, ""], Metrics]:
        outputs = policy.unroll(params, batch.rollout)
        log_ratio = outputs.policy.log_prob(batch.rollout.action) - batch.rollout.behaviour_log_prob
        advantage = normalised(batch.advantage)
        drift = self.drift(theta, log_ratio, advantage, c.clip, when(batch.rollout))
        gain = jnp.exp(log_ratio) * advantage - drift
        value = outputs.flat["value"][..., 0]
        near = batch.value + jnp.clip(value - batch.value, -c.clip, c.clip)
        value_loss = 0.5 * jnp.mean(jnp.maximum((value - batch.target) ** 2, (near - batch.target) ** 2))
        entropy = jnp.mean(outputs.policy.entropy())
        kl = jnp.mean(jnp.expm1(log_ratio) - log_ratio)
        total = -jnp.mean(gain) + c.value_cost * value_loss - c.entropy * entropy
        return total, {"entropy": entropy, "value_loss": value_loss, "kl": kl}


def as_samples(batch: Batch) -> Batch:
    """With single steps along the second axis, `[1, T B]`, unless a memory ties a stream's steps together."""
    if jax.tree.leaves(batch.rollout.memory):
        return batch
    return batch.over_steps(lambda x: x.reshape((1, -1, *x.shape[2:])))


def shuffled(size: int, count: int, key: PRNGKeyArray) -> Int[Array, "count size/count"]:
    """The numbers below `size` in random order, in `count` rows.

    Raises:
      ValueError: `count` does not divide `size`.
    """
    if size % count:
        raise ValueError(
            f"minibatches={count} does not divide {size}, the samples (with a memory: streams) of an update"
        )
    return jax.random.permutation(key, size).reshape(count, -1)


def take(batch: Batch, chosen: Int[Array, " n"]) -> Batch:
    """The `chosen` streams, or samples, of a batch."""

    def along(axis: int):
        # Numbers of a permutation are never out of bounds.
        return lambda x: jnp.take(x, chosen, axis=axis, mode="clip", unique_indices=True)

    memory = jax.tree.map(along(0), batch.rollout.memory)
    part = batch.over_steps(along(1))
    return part._replace(rollout=part.rollout._replace(memory=memory))
