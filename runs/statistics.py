"""Aggregates of a runs x tasks matrix with stratified bootstrap intervals (Agarwal et al. 2021, "Deep RL at the edge").

rliable is the reference; it no longer imports beside pandas 3, and scipy has the parts.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Scores = Float[np.ndarray, "runs tasks"]


class Interval(NamedTuple):
    """A point estimate with its percentile bootstrap interval."""

    point: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.point:.3f} [{self.low:.3f}, {self.high:.3f}]"


def iqm(scores: Scores) -> float:
    """Interquartile mean: the mean of the middle half of all runs of all tasks together."""
    from scipy import stats  # takes two seconds to import, which a mistyped setting must not wait for

    return float(stats.trim_mean(scores.ravel(), 0.25))


def bootstrap(
    statistic: Callable[[Scores], float], scores: Scores, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile interval of `statistic`; runs are resampled with replacement within each task (the strata)."""
    rng = np.random.default_rng(seed)
    runs, tasks = scores.shape
    drawn = [statistic(_resample(scores, rng, runs, tasks)) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(statistic(scores), float(low), float(high))


def probability_of_improvement(ours: Scores, theirs: Scores, resamples: int = 2000, seed: int = 0) -> Interval:
    """P(a run of ours beats a run of theirs), ties counting half, averaged over tasks (Mann-Whitney)."""

    def probability(both: tuple[Scores, ...]) -> float:
        a, b = both[0][:, None, :], both[1][None, :, :]
        return float(np.mean((a > b) + 0.5 * (a == b)))

    rng = np.random.default_rng(seed)
    pairs = (tuple(_resample(s, rng, *s.shape) for s in (ours, theirs)) for _ in range(resamples))
    drawn = [probability(both) for both in pairs]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(probability((ours, theirs)), float(low), float(high))


def _resample(scores: Scores, rng: np.random.Generator, runs: int, tasks: int) -> Scores:
    rows = rng.integers(runs, size=(runs, tasks))
    return np.take_along_axis(scores, rows, axis=0)
