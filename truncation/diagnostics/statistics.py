"""What independent samples of a gradient say about its expectation: U-statistics, and intervals that hold at nought.

A mean of n noisy vectors is longer than its expectation: E ‖x̄‖² = ‖E x‖² + tr Cov(x) / n. So ‖x̄‖², the plug-in, reports
a bias where there is none. Products of *different* samples do not:

    U = 1/(n(n-1)) Σ_{i≠j} x_i · y_j = (Σx · Σy - Σ x·y) / (n(n-1)),   E U = E x · E y
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

Samples: TypeAlias = Float[np.ndarray, "n size"]


class Measured(NamedTuple):
    """A measured number with its confidence interval."""

    point: float
    low: float
    high: float

    def over(self, unit: float) -> "Measured":
        """In units of `unit`."""
        return Measured(*(number / unit for number in self))


def product(one: Samples, other: Samples) -> float:
    """U-statistic for E x · E y from n independent pairs (x, y); x and y of the same pair may depend on each other."""
    n = _count(one)
    same = np.sum(one * other)
    return float((one.sum(axis=0) @ other.sum(axis=0) - same) / (n * (n - 1)))


def squared_norm(samples: Samples, level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Measured:
    """Unbiased for ‖E x‖² (so it may be negative), with an interval of that level.

    The interval inverts a test. Were ‖E x‖ = β, the squared length of the mean would be that of β u + e, with e its
    error and u its direction, both as uncertain as the samples leave them; β² is in the interval iff ‖x̄‖² lies between
    the quantiles of that. A normal interval around U would be wrong where it matters: at β = 0 the statistic is not
    normal. Errors are drawn by the multiplier bootstrap with Student's correction (in one dimension exactly Student's
    t): e = s Σ w_i (x_i - x̄) / √(n(n-1)), w ~ N(0, 1), s² = (n-1) / χ²_{n-1}. On normal samples it covers 92 to 99 %,
    and 85 % at worst: where β is as large as the error, and one direction is far noisier than the others.

    Heavy tails defeat this as they defeat every interval from a few samples. Samples that are not finite say nothing:
    nan, in [0, inf].
    """
    samples = np.asarray(samples, np.float64)
    n = _count(samples)
    if not np.all(np.isfinite(samples)):
        return Measured(float("nan"), 0.0, float("inf"))
    mean = samples.mean(axis=0)
    square = float(mean @ mean)
    along, lengths = _errors(samples, resamples, seed)

    def quantile(length: float, rank: int) -> float:
        return float(np.partition(length**2 + 2 * length * along + lengths, rank)[rank])

    tail = int((1 - level) / 2 * (resamples - 1))
    most = 2 * np.sqrt(square) + 4 * np.sqrt(lengths.max(initial=0.0))
    low = _root(lambda length: quantile(length, resamples - 1 - tail) - square, most)
    # A mean that is shorter than noise alone makes it says nothing against a small bias. So less than what noise alone
    # exceeds in level of all cases is not believed: the interval would be empty just then.
    seen = max(square, quantile(0.0, 2 * tail + 1))
    high = _root(lambda length: quantile(length, tail) - seen, most)
    point = (n * square - np.mean(np.sum(samples**2, axis=1))) / (n - 1)
    return Measured(float(point), float(low**2), float(high**2))


def mean_of(values: Float[np.ndarray, " n"], level: float = 0.95) -> Measured:
    """The mean of independent numbers with Student's interval."""
    from scipy import stats  # takes two seconds to import

    values = np.asarray(values, np.float64)
    n = _count(values)
    error = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Measured(float(values.mean()), float(values.mean() - error), float(values.mean() + error))


def _errors(samples: Samples, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of drawn errors e of the mean: the component e · u along a drawn direction of the mean, and the squared length.

    Through the n x n matrix of products: the size of theta does not matter.
    """
    n, mean = len(samples), samples.mean(axis=0)
    centred = samples - mean
    gram, with_mean = centred @ centred.T, centred @ mean
    rng = np.random.default_rng(seed)

    def draw() -> np.ndarray:
        weights = rng.normal(size=(resamples, n)) / np.sqrt(n * (n - 1))
        return weights * np.sqrt((n - 1) / rng.chisquare(n - 1, (resamples, 1)))

    error, other = draw(), draw()
    lengths = np.sum(error @ gram * error, axis=1)
    # u points along x̄ + e', with an error of its own: as uncertain as the samples leave it.
    square = mean @ mean + 2 * other @ with_mean + np.sum(other @ gram * other, axis=1)
    along = (error @ with_mean + np.sum(error @ gram * other, axis=1)) / np.sqrt(np.where(square > 0, square, 1))
    return along, np.maximum(lengths, along**2)


def _root(function, most: float) -> float:
    """Where an increasing function crosses nought on [0, most]; 0 if it is positive throughout."""
    if function(0.0) >= 0:
        return 0.0
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high


def _count(samples: np.ndarray) -> int:
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} samples: signal and noise cannot be told apart with fewer than 2")
    return len(samples)
