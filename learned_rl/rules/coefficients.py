"""The scalars of an actor-critic update: settings of a hand-designed rule, or the output of a learned schedule."""

from dataclasses import dataclass

import jax
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
