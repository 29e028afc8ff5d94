"""Schedules, intrinsic rewards and agents as pure functions of plain arrays."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learned_rl.layers import LSTMState
from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
from learned_rl.rules.intrinsic.places import PlaceReward, Remembered, Steps
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.schedule import USUAL_KL, Schedule, Statistics
from learned_rl.types import Outputs, Rollout, Theta

Number = float | Float[Array, ""]


def coefficients(
    rule: Schedule,
    theta: Theta,
    *,
    progress: Number,
    entropy: Number = 0.0,
    kl: Number = USUAL_KL,
    improvement: Number = 0.0,
    signal: Number = 0.0,
) -> dict[str, Float[Array, ""]]:
    """What the schedule says at this moment of training, of which the share `progress` has passed.

    `entropy` of the policy and `kl` of the last update are in nats; `improvement` of the reward and its `signal`, mean
    over standard deviation, in [-1, 1].
    """
    seen = Statistics(*(jnp.asarray(x, jnp.float32) for x in (entropy, kl, improvement, signal)))
    told = rule.coefficients_at(theta, jnp.asarray(progress, jnp.float32), seen)
    return {name: jnp.asarray(getattr(told, name)) for name in rule.learned}


def reward_start(rule: StateActionReward | LifetimeReward | PlaceReward, theta: Theta) -> dict[str, Array]:
    """What the reward remembers of a life that has not begun."""
    return _remembered(rule.start(theta, *_NOBODY))


def intrinsic_reward(
    rule: StateActionReward | LifetimeReward,
    theta: Theta,
    *,
    state: dict[str, Array],
    obs: Float[Array, "T B n"],
    next_obs: Float[Array, "T B n"],
    action: Int[Array, "T B"],
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    last: Bool[Array, "T B"],
) -> tuple[Float[Array, "T B"], dict[str, Array]]:
    """r_in of every step, and what the reward remembers: `state` the next time, `start()` the first time.

    Observations are flattened, with room (zeros) up to the rule's setting. `next_obs` is before any reset.
    """
    rollout = Rollout(obs, action, reward, discount, last, next_obs, jnp.zeros_like(reward))
    memory: Any = LSTMState(**state) if state else ()
    paid, memory = rule.pay(theta, memory, rollout)
    return paid, _remembered(memory)


def place_reward(
    rule: PlaceReward,
    theta: Theta,
    *,
    state: dict[str, Array],
    place: Int[Array, "T B"],
    next_place: Int[Array, "T B"],
    reward: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    last: Bool[Array, "T B"],
) -> tuple[Float[Array, "T B"], dict[str, Array]]:
    """r_in of every step, and what the reward remembers: `state` the next time, `start()` the first time.

    A place is any number below the rule's setting `buckets`: one for each thing that can be observed, or a hash of it.
    `next_place` is before any reset.
    """
    seen, memory = rule.seen(Remembered(**state), Steps(place, next_place, reward, discount, last))
    return rule.paid(theta, seen), _remembered(memory)


_NOBODY: Any = (None, None)  # in place of an agent and a key, which learned rewards do not look at


def _remembered(memory: Any) -> dict[str, Array]:
    return memory._asdict() if memory else {}


def agent_start(rule: RL2, theta: Theta, *, last: Bool[Array, " B"]) -> list[Array]:
    """The memory of as many streams as `last` has, at the beginning of a task."""
    return jax.tree.leaves(rule.blueprint.policy(rule.heads).start_memory(last.shape[0]))


def agent_act(
    rule: RL2, theta: Theta, *, memory: list[Array], obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
) -> tuple[list[Array], dict[str, Array]]:
    """One step: the memory after it, and the policy's logits (or mean and log_std) and the value.

    `last` is true where the step before ended a task: there the memory begins anew.
    """
    policy = rule.blueprint.policy(rule.heads)
    tree = jax.tree.structure(jax.eval_shape(lambda: policy.start_memory(1)))
    after, said = policy.act(theta, jax.tree.unflatten(tree, memory), obs, last)
    return jax.tree.leaves(after), _said(said)


def _said(outputs: Outputs) -> dict[str, Array]:
    return {**outputs.policy._asdict(), "value": outputs.flat["value"][..., 0]}
