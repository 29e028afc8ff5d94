"""How far an agent is from a target: what `Bootstrapped` lowers. Each is a function of the target and the agent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_rl.losses import squared_error
from learned_rl.types import Outputs, Params


class View(NamedTuple):
    """An agent as it is compared with another: its parameters, and what it says of the states `[T, B]` they share."""

    params: Params
    outputs: Outputs


Matching: TypeAlias = Callable[[View, View], Float[Array, ""]]


def policy_kl(target: View, agent: View) -> Float[Array, ""]:
    """E_s KL(target || agent): the agent is to do whatever the target does (Flennerhag et al. 2022)."""
    return jnp.mean(target.outputs.policy.kl(agent.outputs.policy))


def reverse_policy_kl(target: View, agent: View) -> Float[Array, ""]:
    """E_s KL(agent || target): the agent is to do nothing that the target does not."""
    return jnp.mean(agent.outputs.policy.kl(target.outputs.policy))


def value_error(target: View, agent: View) -> Float[Array, ""]:
    """E_s (V_agent - V_target)^2 / 2, for rules whose agents have a head called `value`.

    Raises:
      ValueError: there is no such head.
    """
    if "value" not in agent.outputs.flat:
        raise ValueError(f"value_error: the agent has no head 'value'; it has: {', '.join(agent.outputs.flat) or None}")
    return squared_error(agent.outputs.flat["value"], target.outputs.flat["value"])


def parameter_error(target: View, agent: View) -> Float[Array, ""]:
    """||params_agent - params_target||^2 / 2."""
    differences = jax.tree.map(lambda t, a: 0.5 * jnp.sum((a - t) ** 2), target.params, agent.params)
    return sum(jax.tree.leaves(differences), start=jnp.zeros(()))


@dataclass(frozen=True)
class Weighted:
    """sum_i weight_i matching_i, such as policies and values: `Weighted(((1.0, policy_kl), (0.5, value_error)))`."""

    parts: tuple[tuple[float, Matching], ...]

    def __call__(self, target: View, agent: View) -> Float[Array, ""]:
        return sum((weight * matching(target, agent) for weight, matching in self.parts), start=jnp.zeros(()))
