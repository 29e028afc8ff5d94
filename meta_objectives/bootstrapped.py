"""Bootstrapped meta-gradients: an agent is judged by where its own rule would take it."""

from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.types import Metrics, Params, Theta
from meta_objectives.matching import Matching, View, policy_kl
from meta_objectives.problem import History, MetaObjective
from meta_objectives.validation import PolicyGradientSurrogate
from truncation.problem import Segment


@dataclass(frozen=True)
class Bootstrapped:
    """loss = mu(target, agent), the target a constant L updates ahead (Flennerhag et al. 2022, "BMG").

        target = x - alpha grad f(x),   x = params after L - 1 further updates of the agent's own rule

    with f the loss of `base`, judged at x. theta is moved so that the K updates of a segment get where K + L would
    have: credit for L more updates at the price of not differentiating them, and the last one, which knows nothing of
    theta, ties the target to what counts. Without `base` all L updates are the rule's own.

    This is not the gradient of a fixed loss, so nothing is claimed unbiased, and the value means nothing to evolution
    strategies. One identity holds: with L = 1 and mu = `parameter_error` the gradient is alpha times the meta-gradient
    of `base`. For other mu, alpha grad f is first carried through the metric of mu, such as the Fisher matrix.

    mu is taken over fresh steps of the agent, from where its streams stand. The life goes on from the agent, not from
    the target; published code does either.

    Costs L - 1 updates, their `lifetime.steps`, those of mu and those of `base` per judgement, forward only.

    Attributes:
      base: f, differentiable in the agent's parameters; None for no such step.
      updates: L.
      match: mu, see `meta_objectives.matching`.
      learning_rate: alpha.

    Raises:
      ValueError: `updates` or `learning_rate` is out of range.
    """

    base: MetaObjective | None = PolicyGradientSurrogate()
    updates: int = 8
    match: Matching = policy_kl
    learning_rate: float = 0.1

    def __post_init__(self):
        if self.updates < 1 or self.learning_rate <= 0:
            raise ValueError(f"updates ({self.updates}) must be >= 1 and learning_rate ({self.learning_rate}) > 0")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Any:
        return () if self.base is None else self.base.start(lifetime, key)

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Any, key: PRNGKeyArray
    ) -> tuple[Segment, Any]:
        key_states, key_ahead, key_base = jax.random.split(key, 3)
        # What the target is made of is constant, and so it is.
        here, history, state, still = jax.lax.stop_gradient((agent, history, state, theta))
        ahead = self._lived(lifetime, still, here, key_ahead)
        target, metrics = ahead.params, {}
        if self.base is not None:
            target, metrics, state = self._step(lifetime, still, ahead, history, state, key_base)
        _, rollout = lifetime.act(here, key_states)

        def view(params: Params) -> View:
            return View(params, lifetime.policy.unroll(params, rollout))

        return Segment(self.match(view(target), view(agent.params)), metrics), state

    def _lived(self, lifetime: Lifetime, theta: Theta, agent: Agent, key: PRNGKeyArray) -> Agent:
        """The agent after its own rule's part of the L updates."""

        def update(agent: Agent, key: PRNGKeyArray) -> tuple[Agent, None]:
            return lifetime.live(theta, agent, key)[0], None

        updates = self.updates if self.base is None else self.updates - 1
        return jax.lax.scan(update, agent, jax.random.split(key, updates))[0] if updates else agent

    def _step(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Any, key: PRNGKeyArray
    ) -> tuple[Params, Metrics, Any]:
        """One step down the loss of `base`; its metrics, and its state afterwards."""
        base = self.base
        assert base is not None

        def loss(params: Params) -> tuple[Array, tuple[Segment, Any]]:
            segment, after = base.judge(lifetime, theta, agent._replace(params=params), history, state, key)
            return segment.loss, (segment, after)

        gradient, (segment, after) = jax.grad(loss, has_aux=True)(agent.params)
        target = jax.tree.map(lambda p, g: p - self.learning_rate * g, agent.params, gradient)
        return target, {"target_loss": segment.loss} | segment.metrics, after
