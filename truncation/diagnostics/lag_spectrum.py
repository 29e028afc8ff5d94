"""The gradient by lag: what each block of lags contributes, and how noisy it is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.lags import by_lag, shifted
from truncation.lives import all_finite, life_key, over_lives
from truncation.problem import InnerProblem, Theta
from truncation.schedule import Schedule
from truncation.weighing import Moments, products


class Spectrum(NamedTuple):
    """Blocks of lags 0, 1, 2..3, 4..7, ... segments between the use of theta and the loss.

    Attributes:
      lags: the first lag of every block.
      signal: D, the products δ_l · δ_l' of the blocks' expectations; their sum is ‖∇L‖². Unbiased.
      noise: V, the traces of the covariances of the blocks, of one life; their sum is the variance of backprop.
    """

    lags: tuple[int, ...]
    signal: Float[np.ndarray, "blocks blocks"]
    noise: Float[np.ndarray, "blocks blocks"]

    @property
    def contribution(self) -> Float[np.ndarray, " blocks"]:
        """δ_l · ∇L / ‖∇L‖²: the share of every block in the gradient; they add up to 1."""
        return self.signal.sum(axis=1) / self.signal.sum()

    @property
    def eigenvalues(self) -> Float[np.ndarray, " blocks"]:
        """Of D, falling: how many directions the blocks span once noise is taken off. Small ones may be negative."""
        return np.linalg.eigvalsh(self.signal)[::-1]

    def reach(self, share: float = 0.9) -> int:
        """Lags that a window has to reach over for ‖what is left out‖² to be at most (1 - share)² ‖∇L‖²."""
        for kept in range(len(self.lags)):
            left = self.signal[kept:, kept:].sum()
            if left <= (1 - share) ** 2 * self.signal.sum():
                return self.lags[kept]
        return 2 * self.lags[-1]


def lag_spectrum(
    problem: InnerProblem, theta: Theta, horizon: int, lives: int, key: PRNGKeyArray, microbatch: int = 0
) -> Spectrum:
    """Splits the backprop gradient of the mean segment loss of whole lifetimes by lag.

    Means over lives whose losses and derivatives are finite. Cost: lives * horizon segments forward, and horizon times
    backward. Memory: as backprop through a lifetime, with `horizon` adjoints per life of a micro-batch.
    """
    heads = _heads(horizon)
    block = np.searchsorted(heads, np.arange(horizon), side="right") - 1
    member = jnp.asarray(block[None] == np.arange(len(heads))[:, None])

    def one(theta: Theta, key: PRNGKeyArray, transfers: Array, index: Array) -> tuple[tuple, Any]:
        unrolled = by_lag(problem, Schedule(horizon, horizon, remat=True), theta, None, life_key(key, index), transfers)
        finite = all_finite((unrolled.loss, unrolled.rows))
        rows = jax.tree.map(
            lambda x: jnp.where(finite, jnp.tensordot(member.astype(x.dtype), x, axes=1), 0), unrolled.rows
        )
        return (), (rows, products(rows), finite.astype(unrolled.loss.dtype))

    def moments(theta: Theta, key: PRNGKeyArray, transfers: Array) -> tuple[Moments, Array]:
        indices = jnp.arange(lives, dtype=jnp.int32)
        _, (total, gram, count) = over_lives(one, (theta, key, transfers), indices, microbatch=microbatch)
        return Moments.of(total, gram, count), count

    # An argument: as a constant, horizon³ numbers would be part of the program.
    found, count = jax.jit(moments)(theta, key, jnp.asarray(shifted(horizon, horizon)))
    signal, noise = (np.asarray(x, np.float64) for x in found)
    return Spectrum(heads, signal, noise * float(count))


def _heads(horizon: int) -> tuple[int, ...]:
    """0, 1, 2, 4, 8, ... below the horizon."""
    return (0, *(2**power for power in range((horizon - 1).bit_length())))
