"""What the agent minimises: four divergences from targets that were learned, and one value loss that was not.

They are two functions and not one with a switch: no target of `value_loss` depends on theta, so no meta-gradient
passes through it but by way of the agent's own parameters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_rl.rules.disco.meta_network import Targets
from learned_rl.rules.disco.predictions import Taken
from learned_rl.rules.disco.values import CategoricalValues, StepValues
from learned_rl.types import Rollout


class Divergences(NamedTuple):
    """KL(target || prediction) of each kind, per step."""

    policy: Float[Array, "T B"]
    y: Float[Array, "T B"]
    z: Float[Array, "T B"]
    aux_pi: Float[Array, "T B"]


def divergences(said: Taken, targets: Targets, next_policy: Float[Array, "T B A"], rollout: Rollout) -> Divergences:
    """How far the agent is from what it was asked.

    KL(pi_hat || pi) + KL(y_hat || y) + KL(z_hat || z_a) + d KL(pi' || aux_pi_a)

    Args:
      said: at the states acted in; what the gradient is taken of.
      next_policy: logits of the online policy at the states that followed, pi'; data.
    """
    return Divergences(
        kl(targets.policy, said.policy),
        kl(targets.y, said.y),
        kl(targets.z, said.z),
        # A time limit ends the episode, not the task: there is a policy to be predicted.
        rollout.discount * kl(next_policy, said.aux_pi),
    )


def value_loss(said: Taken, values: StepValues, scale: CategoricalValues) -> Float[Array, "T B"]:
    """Cross-entropy of the online value of the action taken with the two-hot Retrace target."""
    log_q = jax.nn.log_softmax(said.q)
    return -jnp.sum(scale.encode(values.q_target) * log_q, axis=-1)


def kl(target: Float[Array, "... n"], prediction: Float[Array, "... n"]) -> Float[Array, "..."]:
    """KL(target || prediction) of the distributions that two vectors of logits stand for."""
    log_target = jax.nn.log_softmax(target)
    return jnp.sum(jnp.exp(log_target) * (log_target - jax.nn.log_softmax(prediction)), axis=-1)
