"""Pieces of actor-critic losses; coefficients are arguments, and nothing here stops gradients by a flag."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_rl import returns
from learned_rl.returns import Scalar
from learned_rl.types import Rollout


def gae(
    rollout: Rollout, value: Float[Array, "T B"], next_value: Float[Array, "T B"], gamma: Scalar, trace: Scalar
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """`(advantage, value target)` of every stream; the target is the lambda-return A + V. See `returns.advantages`."""

    def stream(reward, discount, last, value, next_value):
        return returns.advantages(reward, discount, last, (value, next_value), gamma, trace)

    columns = (rollout.reward, rollout.discount, rollout.last, value, next_value)
    advantage = jax.vmap(stream, in_axes=1, out_axes=1)(*columns)
    return advantage, advantage + value


def normalised(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Zero mean, unit standard deviation over the whole batch (1e-8 guards a constant batch)."""
    centred = x - jnp.mean(x)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2) + 1e-8)


def policy_gradient(log_prob: Float[Array, "..."], advantage: Float[Array, "..."]) -> Float[Array, ""]:
    """-E[A log pi(a)], whose gradient is the policy gradient if `advantage` is a constant."""
    return -jnp.mean(advantage * log_prob)


def squared_error(prediction: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, ""]:
    """E[(prediction - target)^2] / 2."""
    return 0.5 * jnp.mean((prediction - target) ** 2)
