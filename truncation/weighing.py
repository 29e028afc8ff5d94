"""How much to trust each row of a gradient: weights from what past estimates say about signal and noise.

A gradient is the sum of m rows (blocks of lags, an evolution-strategy tail), each known from a mean over lives with
expectation δ_l. The estimate Σ_l w_l x̄_l has the mean squared error

    MSE(w) = (1-w)ᵀ D (1-w) + wᵀ V w,   D_ll' = δ_l · δ_l',   V_ll' = tr Cov(x̄_l, x̄_l'),   w* = (D + V)⁻¹ D 1

Every hard window over these rows, every discount of lags and the unbiased sum (w = 1) is a point of this family.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from truncation.problem import Theta

Rows = Float[Array, " m"]


class Moments(NamedTuple):
    """What is known about the rows of an estimate.

    Attributes:
      signal: D, the products of the rows' expectations.
      noise: V, the traces of the covariances of the rows' means over lives.
    """

    signal: Float[Array, "m m"]
    noise: Float[Array, "m m"]

    @classmethod
    def of(cls, total: Theta, gram: Float[Array, "m m"], count: Float[Array, ""]) -> "Moments":
        """From n independent lives, unbiased for both: D̂ = (Σx Σxᵀ - Σ x xᵀ) / (n (n-1)), V̂ = (Σ x xᵀ / n - D̂) / n.

        Args:
          total: Σ x over lives, theta with a leading axis of rows.
          gram: Σ x xᵀ over lives.
          count: n; zeros are returned for fewer than two lives.
        """
        signal = (products(total) - gram) / jnp.maximum(count * (count - 1), 1)
        noise = (gram / jnp.maximum(count, 1) - signal) / jnp.maximum(count, 1)
        return jax.tree.map(lambda x: jnp.where(count > 1, x, 0), cls(signal, noise))


class Weighing(Protocol):
    """Chooses the weights of rows, from moments of past estimates."""

    def __call__(self, moments: Moments, cost: Rows, start: Rows) -> Rows:
        """Weights of the rows.

        Args:
          moments: estimates of D and V.
          cost: of each row, in units of leading the lives through the window.
          start: the weights so far; rows about which nothing is known keep theirs.
        """
        ...


def unbiased(moments: Moments, cost: Rows, start: Rows) -> Rows:
    """All rows count in full."""
    del moments, cost
    return jnp.ones_like(start)


@dataclass(frozen=True)
class LeastError:
    """Minimises the estimated mean squared error over the box [0, most]^m.

    The box is part of the problem and not a clip of its solution, which would be far worse. Above 1 it lets a reliable
    row speak for an unreliable one that points the same way.

    Attributes:
      most: the largest weight.
      sweeps: of coordinate descent, from the weights so far.
    """

    most: float = 2.0
    sweeps: int = 30

    def __post_init__(self):
        if not self.most >= 1:
            raise ValueError(f"most={self.most} is below 1: the unbiased weights must be allowed")
        if self.sweeps < 1:
            raise ValueError(f"sweeps={self.sweeps}: at least 1 is needed")

    def __call__(self, moments: Moments, cost: Rows, start: Rows) -> Rows:
        del cost
        return _least(_projected(moments), jnp.full_like(start, self.most), start, self.sweeps)


@dataclass(frozen=True)
class Calibrated:
    """The direction of other weights, as long along the gradient as the gradient itself: g · E ĝ = ‖g‖².

    Least error shrinks a gradient as it drowns in noise, which is a second decay of the learning rate; where the
    optimizer is to own the step size, only the direction should be weighed.

    Attributes:
      weigh: the other weights.
      most: the largest factor that they are scaled by.
    """

    weigh: Weighing = LeastError()
    most: float = 10.0

    def __post_init__(self):
        if not self.most >= 1:
            raise ValueError(f"most={self.most} is below 1: shrunk weights could not be restored")

    def __call__(self, moments: Moments, cost: Rows, start: Rows) -> Rows:
        weights, signal = self.weigh(moments, cost, start), _projected(moments).signal
        along, whole = jnp.sum(signal @ weights), jnp.sum(signal)
        longer = jnp.where(along > 0, whole / jnp.where(along > 0, along, 1), 1)
        return weights * jnp.clip(longer, 1 / self.most, self.most)


@dataclass(frozen=True)
class BestProgress:
    """Maximises the progress of gradient descent per cost: (g · E ĝ)² / E ‖ĝ‖² / cost.

    The best direction of a set of rows is that of least error, whatever its length; so the sets compete: lags up to one
    of the rows, with or without the last row (the tail). Rows outside the set get weight 0. The cost of a set is that
    of a program without the others: the estimator that asks does not become cheaper by it.

    Attributes:
      most: the largest weight.
      sweeps: of coordinate descent, from the weights so far.
    """

    most: float = 2.0
    sweeps: int = 30

    __post_init__ = LeastError.__post_init__

    def __call__(self, moments: Moments, cost: Rows, start: Rows) -> Rows:
        projected, count = _projected(moments), len(start)
        sets = jnp.tril(jnp.ones((count, count), bool))
        sets = jnp.concatenate([sets, sets[:-1].at[:, -1].set(True)])
        most = jnp.where(sets, jnp.asarray(self.most, start.dtype), 0)
        weights = jax.vmap(lambda most: _least(projected, most, start, self.sweeps))(most)
        along = jnp.sum(weights @ projected.signal, axis=1)
        square = jnp.sum(weights @ (projected.signal + projected.noise) * weights, axis=1)
        price = 1 + jnp.sum(jnp.where(sets, cost[None], 0), axis=1)
        progress = along**2 / jnp.where(square > 0, square, jnp.inf) / price
        best = weights[jnp.argmax(progress)]
        return jnp.where(jnp.any(progress > 0), best, start)


def products(rows: Theta) -> Float[Array, "m m"]:
    """x_l · x_l' of rows of theta, in single precision at least."""

    def of(leaf: Array) -> Array:
        flat = leaf.reshape(leaf.shape[0], -1).astype(jnp.promote_types(leaf.dtype, jnp.float32))
        return flat @ flat.T

    return jnp.asarray(sum(of(leaf) for leaf in jax.tree.leaves(rows)))


def _projected(moments: Moments) -> Moments:
    """With the nearest D that has no negative eigenvalue; V̂ is a sample covariance and has none.

    D₊ = (D + D sign D) / 2, the sign by Newton-Schulz iteration (Higham 2008, section 5.3). After k turns it is exact
    for eigenvalues above 1.5^-k of the largest, and D sign D off by no more than that for the others. (Not by
    factorisation: LAPACK inside a jitted loop can wait for ever in the thread pool of a small host.)
    """
    signal = moments.signal
    size = jnp.linalg.norm(signal)
    turns = 40 if signal.dtype == jnp.float32 else 90
    sign = signal / jnp.where(size > 0, size, 1)
    sign = jax.lax.fori_loop(0, turns, lambda _, x: 1.5 * x - 0.5 * _times(x, _times(x, x)), sign)
    clipped = (signal + _times(signal, sign)) / 2
    return moments._replace(signal=(clipped + clipped.T) / 2)


def _times(one: Float[Array, "m m"], other: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """In full precision: on accelerators products of single precision are rounded to fewer bits unless asked."""
    return jnp.matmul(one, other, precision="highest")


def _least(moments: Moments, most: Rows, start: Rows, sweeps: int) -> Rows:
    """The minimum of MSE(w) over 0 <= w <= most, by coordinate descent."""
    curvature, pull = moments.signal + moments.noise, jnp.sum(moments.signal, axis=1)
    known = jnp.diag(curvature) > 1e-12 * jnp.trace(curvature)

    def coordinate(row: int, weights: Rows) -> Rows:
        slope = pull[row] - curvature[row] @ weights
        moved = weights[row] + slope / jnp.where(known[row], curvature[row, row], 1)
        return weights.at[row].set(jnp.clip(jnp.where(known[row], moved, weights[row]), 0, most[row]))

    def sweep(_: int, weights: Rows) -> Rows:
        return jax.lax.fori_loop(0, len(start), coordinate, weights)

    return jax.lax.fori_loop(0, sweeps, sweep, jnp.clip(start, 0, most))
