"""What an intrinsic reward is, and what it reads of a rollout.

A reward is written for one *agent*, whatever the number of its streams: there is one life, so there is one memory of
it. (Zheng et al. have a single stream.) What several streams meet at the same step, the memory takes in at once, and
their order means nothing.

A rule does not know what an observation is before it sees one, and theta is made before that. So a reward has room for
observations and actions of some size, a setting; smaller ones leave the rest at zero.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_rl.types import Memory, Policy, Rollout, Theta


@runtime_checkable
class IntrinsicReward(Protocol):
    """A reward as a function of an agent's life so far.

    Settings are the dataclass' fields; what the outer loop learns is in theta, `()` for a hand-designed reward; what is
    remembered of a life is in the memory.
    """

    def init(self, key: PRNGKeyArray) -> Theta:
        """Untrained meta-parameters."""
        ...

    def start(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> Memory:
        """The memory of a newborn agent."""
        ...

    def pay(self, theta: Theta, memory: Memory, rollout: Rollout) -> tuple[Float[Array, "T B"], Memory]:
        """r_in of every step of a rollout, and the memory after it. Reads the steps in the order of time."""
        ...


def observed(obs: Float[Array, "T B *obs"], room: int) -> Float[Array, "T B room"]:
    """Flattened observations.

    Raises:
      ValueError: they are larger than the room for them.
    """
    return _in_room(obs.reshape((*obs.shape[:2], -1)), room, "observation")


def done(rollout: Rollout, room: int) -> Float[Array, "T B room"]:
    """What was done: one-hot, or real. Nothing if there is no room at all: then nothing depends on actions.

    Raises:
      ValueError: there are more actions than the room has.
    """
    steps, streams = rollout.reward.shape
    if not room:
        return jnp.zeros((steps, streams, 0))
    if jnp.issubdtype(rollout.action.dtype, jnp.floating):
        return _in_room(rollout.action.reshape((steps, streams, -1)), room, "action")
    # How many actions there are only a distribution knows; without one they are taken to have been counted before.
    count = rollout.behaviour.logits.shape[-1] if hasattr(rollout.behaviour, "logits") else room
    return _in_room(jax.nn.one_hot(rollout.action, count), room, "action")


def bucket(obs: Float[Array, "T B *obs"], buckets: int, resolution: float) -> Int[Array, "T B"]:
    """Where observations are remembered: a hash, in [0, buckets), of their numbers rounded to 1 / resolution."""
    steps = jnp.round(obs.reshape((*obs.shape[:2], -1)) * resolution).astype(jnp.int32).astype(jnp.uint32)
    multipliers = jax.random.bits(jax.random.key(0), steps.shape[-1:], jnp.uint32)
    mixed = jnp.sum(steps * multipliers, axis=-1, dtype=jnp.uint32)
    # The finaliser of MurmurHash3: sums of multipliers that are alike in their low bits land far apart.
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
    return ((mixed ^ (mixed >> 16)) % jnp.uint32(buckets)).astype(jnp.int32)


def _in_room(x: Float[Array, "T B n"], room: int, name: str) -> Float[Array, "T B room"]:
    if (size := x.shape[-1]) > room:
        raise ValueError(
            f"{name}={room}: there is room for {room} numbers, but here an {name} is {size}; set it to {size} or more"
        )
    return jnp.pad(x, ((0, 0), (0, 0), (0, room - size)))
