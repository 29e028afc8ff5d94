"""The gradient of a window by lag: an adjoint of several rows, which a small matrix mixes between segments.

Back-propagation carries one adjoint from segment to segment. Here it carries m rows: losses enter row 0, and at the
boundary in front of segment s

    λ ← T_s λ,   T_s [m, m],      x_l = Σ_τ (df_τ/dθ)ᵀ λ_l   (each segment's θ collects every row)

`T = 0` cuts the unroll, `T = λ` discounts lags, a random T is ARTBP, a shift register tells every lag apart, and
merging rows sorts credit into blocks of lags. The forward pass happens once whatever m is, the backward pass m times.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncation.problem import InnerProblem, Life, Segment, Theta
from truncation.schedule import Lived, Schedule

ROWS = "adjoint rows"  # the axis that the pull-back is mapped over
Transfers: TypeAlias = Float[Array, "window m m"] | np.ndarray  # T_s; that of segment 0 is the identity


class Unrolled(NamedTuple):
    """A window of one life, differentiated.

    Attributes:
      rows: x, theta with a leading axis of rows.
      loss: mean (or weighted mean) segment loss of the window.
      life: at the end of the window.
      reports: of the segments, stacked.
    """

    rows: Theta
    loss: Float[Array, ""]
    life: Life
    reports: Segment


def by_lag(
    problem: InnerProblem,
    schedule: Schedule,
    theta: Theta,
    lived: Lived | None,
    key: PRNGKeyArray,
    transfers: Transfers,
    importance: Callable[[Float[Array, " window"]], Float[Array, ""]] = jnp.mean,
) -> Unrolled:
    """Leads a life through a window and differentiates its loss with an adjoint of several rows.

    Args:
      problem, schedule, theta, lived, key: as in `Schedule.live`.
      transfers: T_s for every segment of the window.
      importance: of the segments' losses; their mean.
    """

    def crossing(life: Life, s: Int[Array, ""]) -> Life:
        return jax.tree.map(lambda leaf: _crossed(leaf, jnp.asarray(transfers)[s]) if _smooth(leaf) else leaf, life)

    def window_loss(theta: Theta) -> tuple[Float[Array, ""], Any]:
        life, reports = schedule.live(problem, (theta, theta), lived, key, crossing)
        return importance(reports.loss), (life, reports)

    loss, pull, (life, reports) = jax.vjp(window_loss, theta, has_aux=True)
    entry = jnp.zeros(transfers.shape[-1], loss.dtype).at[0].set(1)
    (rows,) = jax.vmap(pull, axis_name=ROWS)(entry)
    return Unrolled(rows, loss, life, reports)


@jax.custom_vjp
def _crossed(leaf: Array, transfer: Float[Array, "m m"]) -> Array:
    """The identity, whose adjoint rows are mixed by `transfer`."""
    del transfer
    return leaf


def _crossed_forward(leaf: Array, transfer: Array) -> tuple[Array, Array]:
    return leaf, transfer


def _crossed_backward(transfer: Array, adjoint: Array) -> tuple[Array, Array]:
    rows = jax.lax.all_gather(adjoint, ROWS)
    into = transfer[jax.lax.axis_index(ROWS)].astype(rows.dtype).reshape(-1, *[1] * adjoint.ndim)
    # An adjoint that is dropped may have overflowed: nought times infinity would not be nought.
    return jnp.sum(jnp.where(into == 0, 0, into * rows), axis=0), jnp.zeros_like(transfer)


_crossed.defvjp(_crossed_forward, _crossed_backward)


def _smooth(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def unmixed(window: int, rows: int = 1) -> np.ndarray:
    """The identity at every boundary: plain back-propagation through the window."""
    return np.broadcast_to(np.eye(rows), (window, rows, rows)).copy()


def cut(window: int, length: int) -> np.ndarray:
    """One row that is cut in front of every `length`-th segment of the window."""
    transfers = unmixed(window)
    transfers[np.arange(window) % length == 0] = 0
    transfers[0] = 1
    return transfers


def shifted(window: int, lags: int) -> np.ndarray:
    """Row j holds the credit of lag j exactly; what is older than the last row is dropped."""
    transfers = unmixed(window, lags)
    transfers[1:] = np.eye(lags, k=-1)
    return transfers


def merged(window: int, depth: int | None = None) -> np.ndarray:
    """Blocks of lags 1, 1, 2, 4, 8, ... before the last loss of the window.

    Boundaries are ranked by how often two divides their distance from the end of the window. Credit belongs to the
    highest rank that it has crossed: row 0 to none, row r to rank r - 1. So the sum of rows 0..r is windowed truncation
    to 2^r segments, for every loss of the window, and for a loss at its end (terminal objectives) the rows are exact
    blocks of lags. Credit that would cross into a block beyond `depth` segments (a power of two) is dropped.
    """
    ranks = [_twos(window - s) + 1 for s in range(1, window)]
    rows = 1 + (max(ranks, default=0) if depth is None else min(depth.bit_length() - 1, max(ranks, default=0)))
    transfers = unmixed(window, rows)
    for s, rank in enumerate(ranks, start=1):
        transfers[s, : rank + 1] = 0
        if rank < rows:
            transfers[s, rank, : rank + 1] = 1
    return transfers


def _twos(number: int) -> int:
    """How often two divides it."""
    return (number & -number).bit_length() - 1
