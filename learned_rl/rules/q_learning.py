"""Q-learning with the objectives that were discovered for it (Co-Reyes et al. 2021, "Evolving Reinforcement Learning
Algorithms"): DQN, DQNClipped and DQNReg are one rule with different losses of a step."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.distributions import Categorical
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta

Numbers = Float[Array, "..."]


class Future(NamedTuple):
    """What a step led to, by the target network; data.

    Attributes:
      target: Y = r + gamma d max_a Q'(s', a).
      best: max_a Q'(s', a).
      discount: gamma d.
    """

    target: Numbers
    best: Numbers
    discount: Numbers


class StepLoss(Protocol):
    """L(Q(s, a), future), elementwise."""

    def __call__(self, q: Numbers, future: Future) -> Numbers: ...


@dataclass(frozen=True)
class SquaredError:
    """DQN's: L = delta^2,  delta = Q(s, a) - Y (Mnih et al. 2015, without their clipping of delta)."""

    def __call__(self, q, future):
        return (q - future.target) ** 2


@dataclass(frozen=True)
class RegularisedError:
    """DQNReg: L = weight Q(s, a) + delta^2 (Co-Reyes et al. 2021, section 4.2, with the published weight).

    Where L is least, Q = Y - weight / 2: Q-learning on rewards that are all weight / 2 smaller, so with values too low
    by weight / (2 (1 - gamma)) where nothing ends; against the overestimation that a maximum over errors makes.
    """

    weight: float = 0.1

    def __call__(self, q, future):
        return self.weight * q + (q - future.target) ** 2


@dataclass(frozen=True)
class ClippedError:
    """DQNClipped: L = max(Q, delta^2 + Y) + max(Q - Y, gamma d (max_a Q'(s', a))^2) (Co-Reyes et al. 2021, 4.2).

    Its slope in Q is that of delta^2 for delta < 0 or > 1 and 1 in between, and 1 more where delta exceeds
    gamma d (max_a Q')^2: values that are too high come down faster than others go up.
    """

    def __call__(self, q, future):
        delta = q - future.target
        return jnp.maximum(q, delta**2 + future.target) + jnp.maximum(delta, future.discount * future.best**2)


class QState(NamedTuple):
    """What the rule remembers: a slow average of the agent's parameters, and the optimizer's moments."""

    target_params: Params
    optimizer: RuleState


class Targets(NamedTuple):
    """What the agent is to learn from a rollout; data.

    Attributes:
      future: of every step, `[T, B]`.
      policy: probabilities of the actions, greedy but for exploration.
    """

    future: Future
    policy: Float[Array, "T B A"]


@dataclass(frozen=True)
class QLearning:
    """Hand-designed (`theta = ()`), built in as `dqn`, `dqn-reg` and `dqn-clipped`, for discrete actions.

        L = E[ loss(Q(s, a), future) ] + E[ KL(pi* || pi) ],   pi* = (1 - eps) 1{a = argmax Q} + eps / |A|

    An agent acts by its policy head, so that it has a distribution like any other; what that head learns is to explore
    epsilon-greedily in the action values, with eps falling linearly from 1 to `explore_least` over the first
    `explore_for` of the lifetime. Q' is the target network: a slow average of the agent, moved after each update.

    Departures. The papers learn off-policy from a replay; here, as for every rule, a rollout is learned from once, in
    `epochs` gradient steps on the whole of it. Their target network is a copy renewed every so many steps.

    Of `coefficients`, the learning rate and the discount are used.

    Attributes:
      loss: of one step.
      target_decay: of the target network, an update.
      explore_for: fraction of the lifetime in which exploration falls; `explore_least`: what it falls to.

    Raises:
      ValueError: a fraction outside [0, 1], no epoch, or (from the network) actions that are not discrete.
    """

    loss: StepLoss = SquaredError()
    coefficients: Coefficients = Coefficients()
    optimizer: InnerOptimizer = Adam()
    epochs: int = 4
    target_decay: float = 0.9
    explore_for: float = 0.5
    explore_least: float = 0.02
    heads = Heads(per_action={"q": 1})

    def __post_init__(self):
        for name in ("target_decay", "explore_for", "explore_least"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is in [0, 1], not {getattr(self, name)}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params = policy.init(key)
        return params, QState(params, self.optimizer.init(params))

    def update(
        self, theta: Theta, params: Params, state: QState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, QState, Metrics]:
        del key
        future = self._future(state.target_params, rollout, policy)

        def epoch(carry: tuple[Params, RuleState], _: None):
            params, moments = carry
            targets = Targets(future, self._explore(policy.unroll(params, rollout).per_action["q"], rollout))
            gradient, metrics = jax.grad(self._loss, has_aux=True)(params, targets, rollout, policy)
            return self.optimizer.update(gradient, moments, params, self.coefficients.learning_rate), metrics

        (new, moments), metrics = jax.lax.scan(epoch, (params, state.optimizer), length=self.epochs)
        slow = jax.tree.map(
            lambda old, p: self.target_decay * old + (1 - self.target_decay) * p, state.target_params, new
        )
        return new, QState(slow, moments), jax.tree.map(jnp.mean, metrics)

    def _future(self, target_params: Params, rollout: Rollout, policy: Policy) -> Future:
        best = jnp.max(policy.unroll_next(target_params, rollout).per_action["q"][..., 0], axis=-1)
        discount = self.coefficients.discount * rollout.discount
        return Future(rollout.reward + discount * best, best, discount)

    def _explore(self, q: Float[Array, "T B A 1"], rollout: Rollout) -> Float[Array, "T B A"]:
        lived = jnp.asarray(rollout.progress) / max(self.explore_for, 1e-6)
        epsilon = jnp.maximum(1.0 - lived, self.explore_least)
        actions = q.shape[-2]
        return (1.0 - epsilon) * jax.nn.one_hot(jnp.argmax(q[..., 0], axis=-1), actions) + epsilon / actions

    def _loss(
        self, params: Params, targets: Targets, rollout: Rollout, policy: Policy
    ) -> tuple[Float[Array, ""], Metrics]:
        outputs = policy.unroll(params, rollout)
        q = outputs.per_action["q"][..., 0]
        taken = jnp.sum(q * jax.nn.one_hot(rollout.action, q.shape[-1]), axis=-1)
        value_loss = jnp.mean(self.loss(taken, targets.future))
        behaviour: Categorical = outputs.policy
        log_pi = jax.nn.log_softmax(behaviour.logits)
        divergence = jnp.mean(jnp.sum(targets.policy * (jnp.log(targets.policy + 1e-8) - log_pi), axis=-1))
        entropy = jnp.mean(behaviour.entropy())
        return value_loss + divergence, {"entropy": entropy, "value_loss": value_loss, "q": jnp.mean(taken)}
