"""A terminal objective as a mean over segments."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.types import Theta
from meta_objectives.problem import History, MetaObjective
from truncation.problem import Segment


class Judged(NamedTuple):
    """What a telescoped objective remembers of a life.

    Attributes:
      base: the wrapped objective's own state.
      previous: the loss of the segment before, with its derivative; 0 in a newborn.
    """

    base: Any
    previous: Float[Array, ""]


@dataclass(frozen=True)
class Telescoped:
    """Combinator: judges a life by the loss of `base` at its end, told segment by segment as what has changed.

        loss_t = H (L_t - L_{t-1}),   L_0 = 0,   t = 1..H      so that      mean_t loss_t = L_H

    (Vicol et al. 2021; eq. 6 of Vicol 2023, "ES-Single".) A loss that is zero until the end would tell an estimator
    with short windows nothing before the last one; here every window reports what it gained. H is read off the history:
    updates in a lifetime over updates in the segment.

    Unbiased for the gradient of E[L_H] with every estimator that is unbiased for the mean segment loss (persistent and
    noise-reuse evolution strategies, whole-lifetime backprop). L_{t-1} is carried with its derivative: inside a window
    the sum telescopes for the derivative as it does for the value. At the head of a window it becomes data, and rightly
    so: no theta of this window has moved it. So windowed backprop lowers what each window gains: blind, as ever, to
    what a window does to later ones. L_0 is the constant 0 and not the newborn's loss, which would be subtracted with
    its own gradient where theta acts at birth.

    What is subtracted is the number that was reported, not a new judgement of the older agent: the sum telescopes
    whatever `base` draws. (The papers judge on the same batch all life long, for less noise in each difference. An
    outer critic that is trained on such a batch would then have seen the actions it judges.)

    Costs what `base` costs, and one number per life.

    Attributes:
      base: the objective whose last value counts.
    """

    base: MetaObjective

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Judged:
        return Judged(self.base.start(lifetime, key), jnp.zeros(()))

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Judged, key: PRNGKeyArray
    ) -> tuple[Segment, Judged]:
        segment, base = self.base.judge(lifetime, theta, agent, history, state.base, key)
        segments = lifetime.updates / len(history.rollout.last)
        told = segment._replace(loss=segments * (segment.loss - state.previous))
        return told, Judged(base, segment.loss)
