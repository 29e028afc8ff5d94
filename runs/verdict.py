"""Who won: a decision between two rules that shared tasks, seeds and initial streams."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from runs.statistics import Interval, Scores, calibrated, improvement, iqm

LEVEL = 0.97  # at 0.95 a winner is called between equal rules in 5 % of comparisons on average, so in many sets in more
FEWEST_RUNS, FEWEST = 3, 6  # runs of a task; runs of all tasks together

Pair = Float[np.ndarray, "*lead 2 runs tasks"]


class Verdict(NamedTuple):
    """What is known of ours against theirs. Intervals are `runs.statistics.calibrated` at `LEVEL`, seeds in pairs.

    Attributes:
      outcome: "won", "lost" or "undecided", and why.
      difference: IQM of the differences between runs of the same task and seed.
      improvement: P(a run of ours beats a run of theirs).
    """

    outcome: str
    difference: Interval
    improvement: Interval


def judge(ours: Scores, theirs: Scores, resamples: int = 2000, seed: int = 0) -> Verdict:
    """Decides between two matrices of normalised scores whose rows have the same seeds.

    Won is what won by how much *and* how often: the 97 % interval of the paired difference lies above 0, and that of
    P(improvement) above 1/2; lost the other way round. Between equal rules that calls a winner in fewer than 5 % of
    comparisons, whether pairs are correlated or not, from three runs of a task and six in all on; below that no
    interval holds what it says, and nothing is decided. It sees more than a comparison of two IQMs: a correlation of
    0.7 between runs of a seed, 10 runs of 4 tasks and an effect of 0.35 standard deviations are called in 0.5 of
    comparisons, and by two intervals that do not overlap in 0.01 to 0.04.

    Raises:
      ValueError: the matrices differ in shape.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"runs are compared seed by seed: {ours.shape} against {theirs.shape}")
    difference = calibrated(iqm, ours - theirs, level=LEVEL, resamples=resamples, seed=seed)
    chance = calibrated(pair_improvement, np.stack([ours, theirs]), level=LEVEL, resamples=resamples, seed=seed)
    return Verdict(_outcome(difference, chance, *ours.shape), difference, chance)


def _outcome(difference: Interval, chance: Interval, runs: int, tasks: int) -> str:
    if runs < FEWEST_RUNS or runs * tasks < FEWEST:
        return "undecided (too few runs)"
    if difference.low > 0 and chance.low > 0.5:
        return "won"
    if difference.high < 0 and chance.high < 0.5:
        return "lost"
    return "undecided"


def pair_improvement(pair: Pair) -> Float[np.ndarray, "*lead"]:
    """`improvement` of the first matrix over the second."""
    return improvement(pair[..., 0, :, :], pair[..., 1, :, :])
