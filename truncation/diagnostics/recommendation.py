"""Which settings to use: the least mean squared error that a budget of inner steps can buy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Trial:
    """What was measured of one setting, in units of ‖∇L‖².

    Attributes:
      name: of the setting, whatever the caller tells settings apart by.
      bias: ‖E ĝ - ∇L‖²; the caller decides what to do with one that cannot be told from nought.
      variance: of the estimate of one life.
      cost: inner steps of one life in one estimate.
      unit: lives that cannot be torn apart (2 for pairs).
    """

    name: object
    bias: float
    variance: float
    cost: float
    unit: int = 1

    def lives(self, budget: float) -> int:
        """As many as the budget pays for in one estimate, at least a unit."""
        return max(int(budget / self.cost) // self.unit, 1) * self.unit

    def error(self, lives: Float[np.ndarray, " n"] | float) -> Float[np.ndarray, " n"]:
        """Mean squared error of an estimate from so many lives at evenly spread ages: bias² + variance / lives."""
        return np.maximum(self.bias, 0) + self.variance / np.asarray(lives)

    @property
    def enough(self) -> float:
        """Lives at which noise is as large as bias: a few times as many buy nothing. Infinite without bias."""
        return self.variance / self.bias if self.bias > 0 else float("inf")


def best(trials: Sequence[Trial], budget: float) -> Trial:
    """The setting with the least mean squared error at this budget; of equals the first. Those over budget sit out.

    Raises:
      ValueError: nothing was tried, or nothing that the budget pays for.
    """
    affordable = [trial for trial in trials if trial.cost * trial.unit <= budget and np.isfinite(trial.error(1))]
    if not affordable:
        raise ValueError(
            f"none of {len(trials)} settings has a finite error within {budget:g} inner steps per estimate"
        )
    return min(affordable, key=lambda trial: float(trial.error(trial.lives(budget))))
