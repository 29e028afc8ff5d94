"""The scalars of an actor-critic update: settings of a hand-designed rule, or what a schedule or self-tuning says."""

from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Coefficient = float | Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coefficients:
    """What a rule is told besides the data.

    Attributes:
      learning_rate: of the inner optimizer.
      discount: gamma, in [0, 1].
      trace: lambda of GAE, in [0, 1].
      entropy: weight of the entropy bonus.
      value_cost: weight of the value loss.
      clip: epsilon of clipped drifts; rules without one ignore it.
    """

    learning_rate: Coefficient = 3e-3
    discount: Coefficient = 0.99
    trace: Coefficient = 0.95
    entropy: Coefficient = 0.01
    value_cost: Coefficient = 0.5
    clip: Coefficient = 0.2


NAMES = tuple(field.name for field in fields(Coefficients))
_PROBABILITIES = ("discount", "trace")


def check_names(names: tuple[str, ...], field: str = "learned") -> None:
    """Raises a ValueError that names the `field` if one of `names` is no coefficient, or stands twice."""
    for name in names:
        if name not in NAMES:
            raise ValueError(f"{field}: {name!r} is not a coefficient; allowed: {NAMES}")
    if len({*names}) < len(names):
        raise ValueError(f"{field}: each coefficient once, not {names}")


def shifted(c: Coefficients, names: tuple[str, ...], by: Float[Array, " n"], reach: float) -> Coefficients:
    """`c` with those called `names` moved by unconstrained numbers, each on the scale where one is a big step:

        discount, trace:  logit c + u, so that the horizon 1 / (1 - c) of a c near 1 is multiplied by e^u
        the others:       c e^u,                                  with u = reach tanh(by / reach)

    No shift is no change, to the bit. A coefficient that is 0, or a discount or trace that is 1, stays.
    """
    moved = {}
    for name, u in zip(names, reach * jnp.tanh(by / reach), strict=True):
        value = jnp.asarray(getattr(c, name), u.dtype)
        moved[name] = value / (value + (1 - value) * jnp.exp(-u)) if name in _PROBABILITIES else value * jnp.exp(u)
    return replace(c, **moved)
