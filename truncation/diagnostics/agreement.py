"""What a descent along an estimate feels of the gradient: direction, signs, progress per cost."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from truncation.diagnostics.statistics import Measured, mean_of, product


class Agreement(NamedTuple):
    """How single estimates compare with the gradient.

    Attributes:
      cosine: mean cosine between an estimate and the gradient.
      signs: mean fraction of coordinates with the sign of the gradient, of those where it has one. (Behind an output
        layer of zeros most of a network has none.)
      efficiency: (∇L · E ĝ)² / (‖∇L‖² E ‖ĝ‖²), in [0, 1]: which fraction of the progress of exact gradient descent a
        step along ĝ makes, each with its best step size; 0 if E ĝ points uphill. Unbiased numerator and denominator.
    """

    cosine: Measured
    signs: Measured
    efficiency: float

    def per_cost(self, cost: float) -> float:
        """Efficiency per inner step, of an estimate that costs so many."""
        return self.efficiency / cost


def agreement(
    gradients: Float[np.ndarray, "repeats estimates size"], truths: Float[np.ndarray, "repeats size"]
) -> Agreement:
    """Compares estimates with samples of the gradient, of the same keys or of others.

    A repetition is compared with the mean truth of the *other* repetitions: its own may share its noise.
    """
    repeats = len(truths)
    others = (truths.sum(axis=0) - truths) / (repeats - 1)
    inner = np.einsum("res,rs->re", gradients, others)
    lengths = np.linalg.norm(gradients, axis=-1) * np.linalg.norm(others, axis=-1)[:, None]
    cosines = inner / np.where(lengths > 0, lengths, 1)
    signed = np.sign(others)[:, None]
    signs = np.sum((np.sign(gradients) == signed) & (signed != 0), axis=-1) / np.maximum(
        np.sum(signed != 0, axis=-1), 1
    )
    along, square = product(gradients.mean(axis=1), truths), product(truths, truths)
    length = np.mean(np.sum(gradients**2, axis=-1))
    efficiency = max(along, 0.0) ** 2 / (square * length) if square > 0 and length > 0 else float("nan")
    return Agreement(mean_of(cosines.mean(axis=1)), mean_of(signs.mean(axis=1)), float(efficiency))
