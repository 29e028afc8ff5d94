"""What a comparison found: every contender's agents on every task, and what is said about them. Needs no JAX."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from runs.statistics import Interval, Scores, bootstrap, iqm, probability_of_improvement


class Curves(NamedTuple):
    """What `seeds` agents earned on one task with one rule.

    Attributes:
      returns: mean episode return along training, `[seeds, POINTS]`.
      scores: mean return over the last tenth of training, `[seeds]`.
      broken: which agents had a parameter at the end that is not finite, by number. What such an agent does, and earns,
        need not show it.
    """

    returns: Float[np.ndarray, "seeds points"]
    scores: Float[np.ndarray, " seeds"]
    broken: Int[np.ndarray, " broken"] = np.empty(0, int)


@dataclass(frozen=True)
class Comparison:
    """Every contender on every task: `results[contender][task]`."""

    tasks: tuple[str, ...]
    env_steps: tuple[int, ...]
    results: dict[str, dict[str, Curves]]

    def scores(self, contender: str) -> Scores:
        """Raw scores, runs x tasks."""
        return np.stack([self.results[contender][task].scores for task in self.tasks], axis=1)

    def normalised(self, contender: str) -> Scores:
        """(score - random) / (best hand-designed - random) per task, both measured here; 0 is no learning at all.

        Where no hand-designed rule beats random by more than 1e-3 of the scale of the scores, the best of all
        contenders stands in for it; where none does, raw differences are left.
        """
        low = self.scores("random").mean(axis=0)
        hand = [self.scores(c).mean(axis=0) for c in self.results if c in ("a2c", "ppo", "dpo")]
        best = np.max([self.scores(c).mean(axis=0) for c in self.results], axis=0)
        high = np.max(hand, axis=0) if hand else best
        floor = 1e-3 * np.maximum(np.abs(low), 1.0)
        high = np.where(high - low > floor, high, best)
        return (self.scores(contender) - low) / np.where(high - low > floor, high - low, 1.0)

    def aggregate(self, contender: str) -> Interval:
        """IQM of the normalised scores over all runs of all tasks, with its 95 % stratified bootstrap interval."""
        return bootstrap(iqm, self.normalised(contender))

    def verdict(self, ours: str, theirs: str) -> str:
        """Who won, by non-overlapping intervals, said plainly."""
        a, b = self.aggregate(ours), self.aggregate(theirs)
        outcome = "won" if a.low > b.high else "lost" if a.high < b.low else "undecided (the intervals overlap)"
        chance = probability_of_improvement(self.scores(ours), self.scores(theirs))
        return f"{ours} against {theirs}: {outcome}; IQM {a} against {b}; P(improvement) {chance}"
