"""Does a distance tell transfer? Rank correlation over ordered pairs of tasks, which are not independent of each other.

Each task is in many pairs, so pairs must not be resampled as if each were a draw of its own: intervals resample
*tasks* (Snijders & Borgatti 1999), and the test permutes *tasks*, rows and columns together (Mantel 1967). Over several
sets of tasks the statistic is the mean of Spearman's rho within each, and each is resampled and permuted in itself:
that one set has larger distances and less transfer than another tells nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from runs.statistics import Interval

Matrix = Float[np.ndarray, "n n"]


class Correlation(NamedTuple):
    """Spearman's rho with a 95 % interval over tasks, and how often permuted tasks have one as low (one-sided).

    A distance that tells transfer has a *negative* rho. `pairs` are those with finite numbers.
    """

    rho: Interval
    p: float
    pairs: int


def spearman(d: Float[np.ndarray, "draws pairs"], t: Float[np.ndarray, "draws pairs"]) -> Float[np.ndarray, " draws"]:
    """Rho of every draw, pairs with a NaN in either left out; NaN where nothing varies."""
    from scipy import stats  # takes two seconds to import

    known = np.isfinite(d + t)
    x, y = (stats.rankdata(np.where(known, m, np.nan), axis=1, nan_policy="omit") for m in (d, t))
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    x, y = (np.where(known, m - np.nansum(m, axis=1, keepdims=True) / count, 0.0) for m in (x, y))
    size = np.sqrt(np.sum(x**2, axis=1) * np.sum(y**2, axis=1))
    return np.where(size > 0, np.sum(x * y, axis=1) / np.where(size > 0, size, 1.0), np.nan)


def ordered_pairs(matrix: Matrix, tasks: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, "draws pairs"]:
    """The entries of every ordered pair among `tasks`, which may name one several times; NaN of a task with itself."""
    first, second = tasks[:, :, None], tasks[:, None, :]
    return np.where(first == second, np.nan, matrix[first, second]).reshape(len(tasks), -1)


def correlation(sets: Sequence[tuple[Matrix, Matrix]], resamples: int = 2000, seed: int = 0) -> Correlation:
    """Of `(distance, transfer)`, one pair of matrices for each set of tasks.

    Raises:
      ValueError: no set has a distance and a transfer that vary.
    """
    rng = np.random.default_rng(seed)
    points, drawn, permuted, pairs = [], [], [], 0
    for distance, transfer in sets:
        n = len(distance)
        as_they_are = np.arange(n)[None]
        chosen, shuffled = (
            rng.integers(n, size=(resamples, n)),
            rng.permuted(np.tile(as_they_are, (resamples, 1)), axis=1),
        )
        d, t = (ordered_pairs(m, as_they_are) for m in (distance, transfer))
        pairs += int(np.isfinite(d + t).sum())
        points.append(spearman(d, t))
        drawn.append(spearman(ordered_pairs(distance, chosen), ordered_pairs(transfer, chosen)))
        permuted.append(spearman(ordered_pairs(distance, shuffled), np.tile(t, (resamples, 1))))
    point = float(_mean(points)[0])
    if not np.isfinite(point):
        raise ValueError("neither rank correlation nor interval: distances or transfers are all the same, or NaN")
    low, high = np.nanquantile(_mean(drawn), [0.025, 0.975])
    p = (1 + np.sum(_mean(permuted) <= point + 1e-12)) / (1 + resamples)
    return Correlation(Interval(point, float(low), float(high)), float(p), pairs)


def _mean(rhos: list[Float[np.ndarray, " draws"]]) -> Float[np.ndarray, " draws"]:
    """Over the sets that have one."""
    found = np.stack(rhos)
    known = np.isfinite(found)
    return np.where(known.any(axis=0), np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
