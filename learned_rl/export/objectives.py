"""Objectives as pure functions of plain arrays, for whoever has a network and a training loop of their own.

Every function computes what its rule does inside an update, by the rule's own code: it hands the rule an agent that has
already spoken. Arguments are keywords; time leads, `[T, B]`, and where nothing runs through time any shape will do.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learned_rl.distributions import Categorical
from learned_rl.layers import LSTMState
from learned_rl.losses import gae
from learned_rl.rules import actor_critic
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.averages import MovingAverage
from learned_rl.rules.disco.predictions import Pair, Predictions
from learned_rl.rules.disco.rule import Averages, Disco
from learned_rl.rules.drift import Batch, Drift
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL, MetaGenRLState
from learned_rl.rules.q_learning import QLearning
from learned_rl.rules.q_learning import Targets as QTargets
from learned_rl.types import Outputs, Rollout, Theta

Number = float | Float[Array, ""]


class Given(NamedTuple):
    """Instead of a distribution: what a rule would have asked it."""

    taken: Float[Array, "T B"]
    spread: Float[Array, "T B"]

    def log_prob(self, action: Any) -> Float[Array, "T B"]:
        return self.taken

    def entropy(self) -> Float[Array, "T B"]:
        return self.spread


class Spoken(NamedTuple):
    """Instead of a network: its outputs stand where its parameters would; `then` is what it says of what followed."""

    then: Any = None

    def unroll(self, params: Outputs, rollout: Rollout) -> Outputs:
        return params

    def unroll_next(self, params: Outputs, rollout: Rollout) -> Any:
        return self.then


def spoken(then: Any = None) -> Any:
    """As whatever a rule takes it for."""
    return Spoken(then)


def value_targets(
    rule: ActorCritic | Drift,
    theta: Theta,
    *,
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    last: Bool[Array, "T B"],
    value: Float[Array, "T B"],
    next_value: Float[Array, "T B"],
) -> dict[str, Float[Array, "T B"]]:
    """`advantage` (GAE) and `target` (lambda-return), with the rule's discount and trace.

    `discount` is 0 where the task terminated, else 1; `last` where an episode ended, by termination or time limit.
    `next_value` is of what a step led to, before any reset.
    """
    rollout = _rollout(reward=reward, discount=discount, last=last)
    c = rule.coefficients
    advantage, target = gae(rollout, value, next_value, c.discount, c.trace)
    return {"advantage": advantage, "target": target}


def actor_critic_loss(
    rule: ActorCritic,
    theta: Theta,
    *,
    log_prob: Float[Array, "T B"],
    entropy: Float[Array, "T B"],
    value: Float[Array, "T B"],
    advantage: Float[Array, "T B"],
    target: Float[Array, "T B"],
) -> Float[Array, ""]:
    """-E[A log pi(a)] + value_cost E[(V - G)^2] / 2 - entropy E[H(pi)]; `advantage` and `target` are data."""
    said = Outputs(Given(log_prob, entropy), {"value": value[..., None]}, {})
    data = actor_critic.Targets(advantage, target)
    return actor_critic.loss(said, data, rule.coefficients, _rollout(), spoken())[0]


def drift_loss(
    rule: Drift,
    theta: Theta,
    *,
    log_prob: Float[Array, "T B"],
    entropy: Float[Array, "T B"],
    value: Float[Array, "T B"],
    behaviour_log_prob: Float[Array, "T B"],
    behaviour_value: Float[Array, "T B"],
    advantage: Float[Array, "T B"],
    target: Float[Array, "T B"],
    progress: Number = 0.0,
    lifetime: Number = 1.0,
) -> Float[Array, ""]:
    """-E[r A - f(r, A)] + value_cost (clipped value loss) - entropy E[H(pi)], r = exp(log_prob - behaviour_log_prob).

    Of one minibatch; the first three change with the parameters, the others are data of the rollout: what acted said
    `behaviour_log_prob` and `behaviour_value`. Advantages are normalised inside. `progress` in [0, 1] is the share of
    training that has passed, `lifetime` the number of all its updates (temporally-aware drifts read both).
    """
    said = Outputs(Given(log_prob, entropy), {"value": value[..., None]}, {})
    rollout = _rollout(behaviour_log_prob=behaviour_log_prob, progress=progress, lifetime=lifetime)
    batch = Batch(rollout, advantage, target, behaviour_value)
    return rule._loss(said, theta, rule.coefficients, batch, spoken())[0]


def lpg_loss(
    rule: LPG,
    theta: Theta,
    *,
    log_prob: Float[Array, "T B"],
    prediction: Float[Array, "T B m"],
    next_prediction: Float[Array, "T B m"],
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    last: Bool[Array, "T B"],
    progress: Number = 0.0,
    lifetime: Number = 1.0,
) -> Float[Array, ""]:
    """E[-pi_hat log pi(a) + alpha_y KL(y || y_hat)] for discrete actions, pi_hat and y_hat held constant.

    `prediction` are the logits of y at the observations acted on, `next_prediction` at those that the steps led to,
    before any reset. `progress` and `lifetime` as in a drift.
    """
    rollout = _rollout(
        action=jnp.zeros(jnp.shape(reward), jnp.int32),
        reward=reward,
        discount=discount,
        last=last,
        progress=progress,
        lifetime=lifetime,
    )
    now = Outputs(Given(log_prob, jnp.zeros_like(log_prob)), {"prediction": prediction}, {})
    then = now._replace(flat={"prediction": next_prediction})
    asked = rule.targets(theta, rollout, *jax.lax.stop_gradient((now, then)))
    return rule.loss(now, asked, rollout, spoken())


def metagenrl_start(rule: MetaGenRL, theta: Theta) -> dict[str, Any]:
    """What the rule remembers of a life in which nothing has happened."""
    return {"rewards": MovingAverage.start()._asdict(), "values": MovingAverage.start()._asdict()}


def metagenrl_loss(
    rule: MetaGenRL,
    theta: Theta,
    *,
    state: dict[str, Any],
    log_prob: Float[Array, "T B"],
    value: Float[Array, "T B"],
    next_value: Float[Array, "T B"],
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    last: Bool[Array, "T B"],
) -> tuple[Float[Array, ""], dict[str, Any]]:
    """L_theta + value_cost E[(V - G)^2] / 2, and what the rule remembers: `state` next time, `start()` the first time.

    A gradient passes through `log_prob` and `value`; `next_value` is of what a step led to, before any reset.
    """
    rollout = _rollout(reward=reward, discount=discount, last=last)
    said = Outputs(Given(log_prob, jnp.zeros_like(log_prob)), {"value": value[..., None]}, {})
    then = said._replace(flat={"value": next_value[..., None]})
    before = MetaGenRLState(MovingAverage(**state["rewards"]), MovingAverage(**state["values"]), ())
    seen, after = rule._look(*jax.lax.stop_gradient((said, before)), rollout, spoken(jax.lax.stop_gradient(then)))
    loss = rule._loss(said, theta, seen, rollout, spoken())[0]
    return loss, {"rewards": after.rewards._asdict(), "values": after.values._asdict()}


def q_loss(
    rule: QLearning,
    theta: Theta,
    *,
    logits: Float[Array, "T B A"],
    q: Float[Array, "T B A"],
    target_next_q: Float[Array, "T B A"],
    action: Int[Array, "T B"],
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    progress: Number = 0.0,
) -> Float[Array, ""]:
    """E[loss(Q(s, a), future)] + E[KL(pi* || pi)], pi* greedy in q but for exploration, which falls with `progress`.

    A gradient passes through `logits`, of the policy, and `q`; an agent that explores by itself leaves out the second
    term by not training its logits. `target_next_q` is what the target network says of what a step led to.
    """
    rollout = _rollout(action=action, reward=reward, discount=discount, progress=progress)
    said = Outputs(Categorical(logits), {}, {"q": q[..., None]})
    then = Outputs((), {}, {"q": target_next_q[..., None]})
    future = rule._future((), rollout, spoken(jax.lax.stop_gradient(then)))
    asked = QTargets(future, rule._explore(jax.lax.stop_gradient(q)[..., None], rollout))
    return rule._loss(said, asked, rollout, spoken())[0]


def disco_start(rule: Disco, theta: Theta) -> dict[str, Any]:
    """What the rule remembers of a life in which nothing has happened."""
    average = MovingAverage.start()
    return _remembered(Averages(average, average), rule.network.birth())


def disco_loss(
    rule: Disco,
    theta: Theta,
    *,
    state: dict[str, Any],
    now: dict[str, Array],
    then: dict[str, Array],
    target_now: dict[str, Array],
    target_then: dict[str, Array],
    action: Int[Array, "T B"],
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    last: Bool[Array, "T B"],
    behaviour: Float[Array, "T B A"],
) -> tuple[Float[Array, ""], dict[str, Any]]:
    """The loss of a rollout, and what the rule remembers of it: `state` the next time, `start()` the first time.

    `now` are the network's logits at the observations acted on: `policy [T, B, A]`, `y [T, B, m]`, `z [T, B, A, m]`,
    `q [T, B, A, bins]`, `aux_pi [T, B, A, A]`; only through them does a gradient pass. `then` are those of the states
    that followed: of the next step, and of the observation before a reset after a time limit and after the last step.
    `target_now` and `target_then` are the same of a slow average of the parameters, target <- k target + (1 - k) params
    after every update, with k = `target_decay` and the parameters from before it. `behaviour` are the logits of what
    acted.
    """
    said = Predictions(**now)
    online, after, slow, slow_after = (
        rule.glance(theta, Predictions(**x)) for x in (*jax.lax.stop_gradient((now, then)), target_now, target_then)
    )
    log_probs = jax.nn.log_softmax(behaviour)
    one_hot = jax.nn.one_hot(action, behaviour.shape[-1], dtype=behaviour.dtype)
    rollout = _rollout(
        action=action,
        reward=reward,
        discount=discount,
        last=last,
        behaviour_log_prob=jnp.sum(log_probs * one_hot, axis=-1),
        behaviour=Logits(behaviour),
    )
    averages = Averages(MovingAverage(**state["advantage"]), MovingAverage(**state["q_error"]))
    lifetime = LSTMState(**state["lifetime"])
    seen, averages = rule.look(Pair(online, after), Pair(slow, slow_after), rollout, averages)
    asked = rule.network.targets(theta, lifetime, seen)
    loss = jnp.mean(rule.total(rule.losses(said.taken(action), asked, seen)))
    return loss, _remembered(averages, rule.network.live(theta, lifetime, seen, asked))


class Logits(NamedTuple):
    """Of the policy that acted."""

    logits: Float[Array, "T B A"]


def _remembered(averages: Averages, lifetime: LSTMState) -> dict[str, Any]:
    return {
        "advantage": averages.advantage._asdict(),
        "q_error": averages.q_error._asdict(),
        "lifetime": lifetime._asdict(),
    }


def _rollout(**given: Any) -> Rollout:
    """A rollout of which only some fields are known; whoever reads another one is told so by the missing array."""
    nothing: Any = None
    return Rollout(**{name: nothing for name in Rollout._fields if name not in Rollout._field_defaults} | given)
