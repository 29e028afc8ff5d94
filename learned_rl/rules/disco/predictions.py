"""What an agent's network says for the rule, and how a rule looks at it."""

from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_rl.rollout import over_steps
from learned_rl.types import Outputs, Params, Policy, Rollout

S = TypeVar("S")  # what is made of predictions: a pytree of `[T, B, ...]`


class Predictions(NamedTuple):
    """A network's outputs for the rule, all of them logits.

    Attributes:
      policy: of the actions.
      y: a prediction of the state; what it means is discovered.
      z: the same of every action.
      q: value of every action, see `CategoricalValues`.
      aux_pi: for every action, what the policy will be after it.
    """

    policy: Float[Array, "... A"]
    y: Float[Array, "... m"]
    z: Float[Array, "... A m"]
    q: Float[Array, "... A bins"]
    aux_pi: Float[Array, "... A A"]

    @classmethod
    def of(cls, outputs: Outputs) -> Self:
        each = outputs.per_action
        return cls(outputs.policy.logits, outputs.flat["y"], each["z"], each["q"], each["aux_pi"])

    def taken(self, action: Int[Array, "..."]) -> "Taken":
        """What is said of the action taken."""
        return Taken(self.policy, self.y, *(of_action(x, action) for x in (self.z, self.q, self.aux_pi)))


class Taken(NamedTuple):
    """As `Predictions`, of the action taken alone: all that a loss looks at."""

    policy: Float[Array, "... A"]
    y: Float[Array, "... m"]
    z: Float[Array, "... m"]
    q: Float[Array, "... bins"]
    aux_pi: Float[Array, "... A"]


def said_of_taken(policy: Policy, params: Params, rollout: Rollout) -> Taken:
    """What the network of `params` says of the actions of a rollout."""
    if unroll_taken := getattr(policy, "unroll_taken", None):
        return Taken(*Predictions.of(unroll_taken(params, rollout)))
    return Predictions.of(policy.unroll(params, rollout)).taken(rollout.action)


class Embedded(NamedTuple):
    """Predictions read by one part of the meta-network: one number per vector."""

    y: Float[Array, "..."]
    z: Float[Array, "... A"]


class Glance(NamedTuple):
    """What the rule makes of what a network says of a state: a few numbers, where `Predictions` are thousands.

    Attributes:
      policy: logits of the actions.
      q: value of every action, as a number; data.
      trajectory: y and z as the meta-network's reader of rollouts reads them.
      lifetime: as its reader of lifetimes does.
    """

    policy: Float[Array, "... A"]
    q: Float[Array, "... A"]
    trajectory: Embedded
    lifetime: Embedded


class Pair(NamedTuple):
    """What is made of the states acted in, and of the states that followed; `[T, B, ...]` both."""

    now: Glance
    then: Glance


def of_action(x: Float[Array, "... A n"], action: Int[Array, "..."]) -> Float[Array, "... n"]:
    """The row of the action taken. A contraction, not a gather: its derivative is dense."""
    return jnp.sum(x * jax.nn.one_hot(action, x.shape[-2], dtype=x.dtype)[..., None], axis=-2)


def signed_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def following(look: Callable[[Predictions], S], now: S, params: Params, rollout: Rollout, policy: Policy) -> S:
    """What `look` makes of the states that followed, `[T, B, ...]`, given what it makes of those acted in.

    Inside an episode that is the next step's. After a termination it is the next episode's first state, as published
    (nothing is bootstrapped from it); after a time limit, and after the last step of the rollout, it is `next_obs`.
    """
    truncated = rollout.last & (rollout.discount > 0)

    def everywhere() -> S:
        beyond = look(Predictions.of(policy.unroll_next(params, rollout)))
        cut = truncated.at[-1].set(True)
        return jax.tree.map(
            lambda b, x: jnp.where(cut.reshape(cut.shape + (1,) * (x.ndim - 2)), b, jnp.roll(x, -1, axis=0)),
            beyond,
            now,
        )

    def at_the_end() -> S:
        beyond = look(Predictions.of(policy.unroll_next(params, over_steps(lambda x: x[-1:], rollout))))
        return jax.tree.map(lambda b, x: jnp.concatenate([x[1:], b]), beyond, now)

    if jax.tree.leaves(rollout.memory):
        return everywhere()
    # A third of the work of an update, and most rollouts of most tasks do not need it.
    return jax.lax.cond(jnp.any(truncated[:-1]), everywhere, at_the_end)
