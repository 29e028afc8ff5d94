"""Auxiliary actor-critic heads: more policies and values on the same experience, each with its coefficients."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.distributions import Categorical
from learned_rl.losses import policy_gradient, squared_error
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.returns import VTrace, vtrace
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Heads, Metrics, Outputs, Params, Policy, Rollout, Rule, RuleState, Theta


class HeadState(NamedTuple):
    """What the rule inside remembers, and the moments of the head's own optimizer."""

    base: RuleState
    moments: RuleState


@dataclass(frozen=True)
class AuxiliaryHead:
    """Combinator: beside what `base` makes of a rollout, one more policy pi' and value V' learn from it off-policy.

        L' = -E[A' log pi'(a)] + value_cost E[(V' - G')^2] / 2 - entropy E[H(pi')]

    with V-trace targets G' and advantages A' of this head's `coefficients`, both held constant. Nobody acts by pi':
    what it is for is the body that learning it makes (Zahavy et al. 2020, section 3: STACX has two such heads). So give
    agents `Network(separate=False)`. Heads nest, and `SelfTuning` around them tunes the coefficients of every one:
    `SelfTuning(AuxiliaryHead(AuxiliaryHead(ActorCritic())))` is STACX. Discrete actions only.

    Departures: a head has a gradient step and an optimizer of its own, after the base's, so that any rule can be
    inside; STACX adds the losses. It has no leaky V-trace and no KL term: data are one update old at most.

    Attributes:
      base: how the agent learns to act.
      coefficients: of this head.
      head_optimizer: of its step.
    """

    base: Rule = ActorCritic()
    coefficients: Coefficients = Coefficients()
    head_optimizer: InnerOptimizer = Adam()

    @property
    def number(self) -> int:
        """Of this head: 1 is the innermost."""
        rule, number = self, 0
        while rule is not None:
            number += isinstance(rule, AuxiliaryHead)
            rule = getattr(rule, "base", None)
        return number

    @property
    def heads(self) -> Heads:
        inside = self.base.heads
        return Heads({**inside.flat, self._value: 1}, {**inside.per_action, self._policy: 1})

    @property
    def _value(self) -> str:
        return f"value_{self.number}"

    @property
    def _policy(self) -> str:
        return f"policy_{self.number}"

    def init(self, key: PRNGKeyArray) -> Theta:
        return self.base.init(key)

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, HeadState]:
        params, base = self.base.birth(theta, policy, key)
        return params, HeadState(base, self.head_optimizer.init(params))

    def update(
        self, theta: Theta, params: Params, state: HeadState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, HeadState, Metrics]:
        params, base, metrics = self.base.update(theta, params, state.base, rollout, policy, key)
        c = self.coefficients
        # Made outside the loss: constants of its gradient, through which a meta-gradient still flows.
        targets = self.targets(params, rollout, policy)

        def loss(params: Params) -> Float[Array, ""]:
            outputs = policy.unroll(params, rollout)
            actor = self._actor(outputs)
            value_loss = squared_error(outputs.flat[self._value][..., 0], targets.targets)
            gain = policy_gradient(actor.log_prob(rollout.action), targets.advantage)
            return gain + c.value_cost * value_loss - c.entropy * jnp.mean(actor.entropy())

        head_loss, gradient = jax.value_and_grad(loss)(params)
        params, moments = self.head_optimizer.update(gradient, state.moments, params, c.learning_rate)
        return params, HeadState(base, moments), metrics | {f"head_loss_{self.number}": head_loss}

    def targets(self, params: Params, rollout: Rollout, policy: Policy) -> VTrace:
        """What this head is to learn from a rollout, each `[T, B]`."""
        outputs = policy.unroll(params, rollout)
        value = outputs.flat[self._value][..., 0]
        next_value = policy.unroll_next(params, rollout).flat[self._value][..., 0]
        log_ratio = self._actor(outputs).log_prob(rollout.action) - rollout.behaviour_log_prob

        def stream(reward, discount, last, value, next_value, log_ratio):
            c = self.coefficients
            return vtrace((reward, discount, last), (value, next_value), log_ratio, c.discount, c.trace)

        of_streams = jax.vmap(stream, in_axes=1, out_axes=1)
        return of_streams(rollout.reward, rollout.discount, rollout.last, value, next_value, log_ratio)

    def _actor(self, outputs: Outputs) -> Categorical:
        return Categorical(outputs.per_action[self._policy][..., 0])
