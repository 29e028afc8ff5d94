"""What the meta-network is shown of a rollout, as numbers: 23 of a step, and 9 of a step and action.

Only the readings of y and z are differentiable (in theta, and in the agent that produced them): probabilities, values
and rewards are data.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_rl.rules.disco.predictions import Embedded, Pair, of_action, signed_log
from learned_rl.rules.disco.values import StateValues, StepValues
from learned_rl.types import Rollout

FEATURES, CHANNELS = 23, 9


class Evidence(NamedTuple):
    """All that the meta-network learns of a rollout.

    Attributes:
      rollout: what was done and what came of it.
      behaviour: logits of the policy that acted.
      agent: what the online network says, at a glance.
      target: what the target network says.
      values: of the states `(now, then)`.
      steps: of the actions taken.
      advantage: standardised by its moving average.
      action_advantage: of every action, standardised by the same average.
    """

    rollout: Rollout
    behaviour: Float[Array, "T B A"]
    agent: Pair
    target: Pair
    values: tuple[StateValues, StateValues]
    steps: StepValues
    advantage: Float[Array, "T B"]
    action_advantage: Float[Array, "T B A"]


def step_features(
    seen: Evidence, agent: tuple[Embedded, Embedded], target: tuple[Embedded, Embedded]
) -> Float[Array, "T B 23"]:
    """The features of a step, in the published order; `agent` and `target` are `(now, then)`."""
    action, rollout, (now, then) = seen.rollout.action, seen.rollout, seen.values
    pi, mu, target_pi = probabilities(seen)
    next_pi = jax.nn.softmax(jax.lax.stop_gradient(seen.agent.then.policy))
    policies = (pi, next_pi)

    def taken(x: Float[Array, "T B A"]) -> Float[Array, "T B"]:
        return of_action(x[..., None], action)[..., 0]

    def three_ways(read: tuple[Embedded, Embedded]) -> list[Array]:
        mean = [jnp.sum(p * state.z, axis=-1) for p, state in zip(policies, read, strict=True)]
        return [taken(read[0].z), *mean, *(jnp.max(state.z, axis=-1) for state in read)]

    features = [
        *(taken(pi), taken(mu), signed_log(rollout.reward), rollout.discount),
        *(signed_log(now.value), signed_log(then.value)),
        *(signed_log(seen.steps.advantage), seen.advantage),
        taken(target_pi),
        *(agent[0].y, agent[1].y, target[0].y, target[1].y),
        *three_ways(agent),
        *three_ways(target),
    ]
    return jnp.stack(features, axis=-1)


def action_features(seen: Evidence, agent: Embedded, target: Embedded) -> Float[Array, "T B A 9"]:
    """The features of a step and action, in the published order."""
    now = seen.values[0]
    one_hot = jax.nn.one_hot(seen.rollout.action, now.q.shape[-1], dtype=now.q.dtype)
    values = (signed_log(now.target_q), signed_log(now.action_advantage), seen.action_advantage)
    return jnp.stack([*probabilities(seen), agent.z, target.z, *values, one_hot], axis=-1)


def probabilities(seen: Evidence) -> tuple[Array, Array, Array]:
    """pi, mu and pi' of every action, as data."""
    logits = (seen.agent.now.policy, seen.behaviour, seen.target.now.policy)
    pi, mu, target = (jax.nn.softmax(jax.lax.stop_gradient(x)) for x in logits)
    return pi, mu, target
