"""Returns and advantages on one stream of experience: every argument is `[T]`; `jax.vmap` over streams.

rlax has these, but it pulls in a nightly TensorFlow Probability, and it folds a time limit into the discount. Here
an episode may end without terminating: `last` cuts the trace, and only `discount = 0` zeroes the bootstrap.

Conventions: `value[t]` is V(s_t); `next_value[t]` is V of what step t led to, before any reset, so that it is right
also where `last[t]`. `discount` is the task's 0/1, `gamma` the agent's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = float | Float[Array, ""]


def advantages(
    reward: Float[Array, " T"],
    discount: Float[Array, " T"],
    last: Bool[Array, " T"],
    values: tuple[Float[Array, " T"], Float[Array, " T"]],
    gamma: Scalar,
    trace: Scalar,
) -> Float[Array, " T"]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

        delta_t = r_t + gamma d_t V(s'_t) - V(s_t)
        A_t     = delta_t + gamma lambda A_{t+1}      and A_t = delta_t where the episode ended at t

    Args:
      reward, discount, last: as in `Rollout`, one stream.
      values: `(value, next_value)`.
      gamma: discount factor in [0, 1].
      trace: lambda in [0, 1].
    """
    value, next_value = values
    delta = reward + gamma * discount * next_value - value
    carry_on = gamma * trace * (1.0 - last)
    return _discounted_sum(delta, carry_on)


def lambda_returns(
    reward: Float[Array, " T"],
    discount: Float[Array, " T"],
    last: Bool[Array, " T"],
    next_value: Float[Array, " T"],
    gamma: Scalar,
    trace: Scalar,
) -> Float[Array, " T"]:
    """TD(lambda) targets (Sutton & Barto 2018, eq. 12.18).

        G_t = r_t + gamma d_t [(1 - lambda) V(s'_t) + lambda G_{t+1}]

    with G_{t+1} replaced by V(s'_t) where the episode ended at t or the stream was cut after it.
    """
    cut = last.at[-1].set(True)
    here = reward + gamma * discount * next_value * jnp.where(cut, 1.0, 1.0 - trace)
    return _discounted_sum(here, gamma * trace * discount * (1.0 - cut))


class VTrace(NamedTuple):
    """Targets for the value, and advantages for the policy gradient, each `[T]`."""

    targets: Float[Array, " T"]
    advantage: Float[Array, " T"]


def vtrace(
    rollout: tuple[Float[Array, " T"], Float[Array, " T"], Bool[Array, " T"]],
    values: tuple[Float[Array, " T"], Float[Array, " T"]],
    log_ratio: Float[Array, " T"],
    gamma: Scalar,
    trace: Scalar = 1.0,
    clip: Scalar = 1.0,
) -> VTrace:
    """V-trace (Espeholt et al. 2018, eq. 1, with both thresholds at `clip`, c scaled by `trace`).

        rho_t = min(clip, pi/mu),  c_t = trace min(clip, pi/mu)
        v_t = V(s_t) + rho_t delta_t + gamma c_t (v_{t+1} - V(s_{t+1}))
        A_t = rho_t (r_t + gamma d_t v_{t+1} - V(s_t))

    Args:
      rollout: `(reward, discount, last)`.
      values: `(value, next_value)`.
      log_ratio: log pi(a_t) - log mu(a_t).
    """
    reward, discount, last = rollout
    value, next_value = values
    rho = jnp.minimum(clip, jnp.exp(log_ratio))
    delta = rho * (reward + gamma * discount * next_value - value)
    correction = _discounted_sum(delta, gamma * trace * rho * (1.0 - last))
    targets = value + correction
    cut = last.at[-1].set(True)
    next_target = jnp.where(cut, next_value, jnp.roll(targets, -1))
    return VTrace(targets, rho * (reward + gamma * discount * next_target - value))


def retrace(
    rollout: tuple[Float[Array, " T"], Float[Array, " T"], Bool[Array, " T"]],
    next_value: Float[Array, " T"],
    q: Float[Array, " T"],
    log_ratio: Float[Array, " T"],
    gamma: Scalar,
    trace: Scalar,
) -> Float[Array, " T"]:
    """Retrace(lambda) targets of the actions taken (Munos et al. 2016, eq. 4, unrolled backwards).

        Q_t = r_t + gamma d_t [V(s'_t) + c_{t+1} (Q_{t+1} - Q(s_{t+1}, a_{t+1}))],   c_t = lambda min(1, pi/mu)

    with V(s'_t) alone in the brackets where the episode ended at t or the stream was cut after it. The coefficient is
    the *next* step's: that of the first step enters no target.

    Args:
      rollout: `(reward, discount, last)`.
      next_value: E_pi Q(s'_t, .), before any reset.
      q: Q(s_t, a_t).
      log_ratio: log pi(a_t) - log mu(a_t).
    """
    reward, discount, last = rollout
    coefficient = trace * jnp.minimum(1.0, jnp.exp(log_ratio))
    carry_on = jnp.where(last.at[-1].set(True), 0.0, jnp.roll(coefficient, -1))
    here = reward + gamma * discount * (next_value - carry_on * jnp.roll(q, -1))
    return _discounted_sum(here, gamma * discount * carry_on)


def _discounted_sum(x: Float[Array, " T"], carry_on: Float[Array, " T"]) -> Float[Array, " T"]:
    """y_t = x_t + carry_on_t y_{t+1}, y_T = 0."""

    def step(y, inputs):
        x_t, carry_on_t = inputs
        y = x_t + carry_on_t * y
        return y, y

    return jax.lax.scan(step, jnp.zeros((), x.dtype), (x, carry_on), reverse=True)[1]
