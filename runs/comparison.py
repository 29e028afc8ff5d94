"""What a comparison found: every contender's agents on every task, and what is said about them. Needs no JAX."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from runs.statistics import Aggregate, Band, Interval, Scores, band, calibrated, iqm, profile, widened
from runs.verdict import Verdict, judge

FLOOR = "random"  # the contender that is 0 on the normalised scale
GRID = 50  # points of a sample-efficiency curve


class Curves(NamedTuple):
    """What `seeds` agents earned on one task with one rule.

    Attributes:
      returns: mean episode return along training, `[seeds, points]`.
      scores: mean return over the last tenth of training, `[seeds]`.
      broken: which agents had a parameter at the end that is not finite, by number. What such an agent does, and earns,
        need not show it.
      first: task and parameters of the first agent after its training; None where only the numbers were kept.
    """

    returns: Float[np.ndarray, "seeds points"]
    scores: Float[np.ndarray, " seeds"]
    broken: Int[np.ndarray, " broken"] = np.empty(0, int)
    first: Any = None


class Scale(NamedTuple):
    """What is 0 and what is 1 of a normalised score, per task.

    Attributes:
      zero: the mean score of `FLOOR`.
      one: the mean score of the contender in `by`.
      by: its name; "" where nobody beats `FLOOR`, and scores are differences from it in the task's own unit.
    """

    zero: Float[np.ndarray, " tasks"]
    one: Float[np.ndarray, " tasks"]
    by: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Every contender on every task: `results[contender][task]`. Row i of all of them is seed i.

    Attributes:
      env_steps: of an agent's training, per task.
      references: the contenders of which the best is 1 on the normalised scale: hand-designed rules, as whoever
        compares declares.
      recorded: environment steps at the points of the curves, per task; evenly spaced if it is not given.

    Raises:
      ValueError: a reference that is no contender.
    """

    tasks: tuple[str, ...]
    env_steps: tuple[int, ...]
    results: dict[str, dict[str, Curves]]
    references: tuple[str, ...] = ()
    recorded: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self):
        if missing := [name for name in self.references if name not in self.results]:
            raise ValueError(f"no contender is called {', '.join(missing)}: there are {', '.join(self.results)}")

    def scores(self, contender: str) -> Scores:
        """Raw scores, runs x tasks."""
        return np.stack([self.results[contender][task].scores for task in self.tasks], axis=1)

    @cached_property
    def scale(self) -> Scale:
        """0 is the mean of `FLOOR`, 1 that of the best reference, both measured here; 0 is no learning at all.

        Where no reference beats `FLOOR` by more than 1e-3 of the scale of the scores, the best of all contenders stands
        in for it. The best of several means is a little too high (`runs.selection`): it is chosen and measured by the
        same runs. That moves the unit, and no sign of a difference.
        """
        means = {name: self.scores(name).mean(axis=0) for name in self.results}
        zero = means[FLOOR]
        floor = zero + 1e-3 * np.maximum(np.abs(zero), 1.0)

        def best(i: int, names: Iterable[str]) -> str:
            above = [name for name in names if means[name][i] > floor[i]]
            return max(above, key=lambda name: means[name][i], default="")

        by = [best(i, self.references) or best(i, self.results) for i in range(len(self.tasks))]
        one = [means[name][i] if name else zero[i] + 1.0 for i, name in enumerate(by)]
        return Scale(zero, np.array(one), tuple(by))

    def normalised(self, contender: str) -> Scores:
        """(score - 0) / (1 - 0) on the `scale` of each task, runs x tasks."""
        return (self.scores(contender) - self.scale.zero) / (self.scale.one - self.scale.zero)

    def aggregate(
        self, contender: str, aggregate: Aggregate = iqm, interval: Callable[..., Interval] = calibrated
    ) -> Interval:
        """The aggregate of the normalised scores with its 95 % stratified bootstrap interval.

        `interval` is `runs.statistics.calibrated`, or `bootstrap` for rliable's.
        """
        return interval(aggregate, self.normalised(contender))

    def profile(self, contender: str, taus: Float[np.ndarray, " n"]) -> Band:
        """Performance profile: the fraction of runs whose normalised score is above tau."""
        scores = self.normalised(contender)
        return band(profile(taus), scores, level=widened(0.95, scores))

    def efficiency(self, contender: str) -> Band:
        """IQM of the normalised return at `fractions` of training; before the first recorded point, that point's."""
        by_task = zip(self.tasks, self.env_steps, self.scale.zero, self.scale.one, strict=True)
        normalised = [
            (self._at_fractions(self.results[contender][task], self.points(task) / steps) - zero) / (one - zero)
            for task, steps, zero, one in by_task
        ]
        scores = np.stack(normalised, axis=-1)
        return band(iqm, scores, level=widened(0.95, scores), resamples=1000)

    @property
    def fractions(self) -> Float[np.ndarray, " grid"]:
        """Of training, at which `efficiency` is given."""
        return np.arange(1, GRID + 1) / GRID

    def points(self, task: str) -> Float[np.ndarray, " points"]:
        """Environment steps at which the curves of a task were recorded."""
        i = self.tasks.index(task)
        if self.recorded:
            return np.array(self.recorded[i])
        count = next(iter(self.results.values()))[task].returns.shape[1]
        return self.env_steps[i] * np.arange(1, count + 1) / count

    def _at_fractions(self, curves: Curves, points: Float[np.ndarray, " points"]) -> Float[np.ndarray, "grid seeds"]:
        return np.stack([np.interp(self.fractions, points, run) for run in curves.returns], axis=1)

    def judge(self, ours: str, theirs: str) -> Verdict:
        """Who won, decided on pairs of runs that share a task and a seed (`runs.verdict.judge`)."""
        return judge(self.normalised(ours), self.normalised(theirs))

    def verdict(self, ours: str, theirs: str) -> str:
        """The same, said plainly."""
        outcome, difference, chance = self.judge(ours, theirs)
        both = f"IQM {self.aggregate(ours)} against {self.aggregate(theirs)}"
        return f"{ours} against {theirs}: {outcome}; {both}; paired difference {difference}; P(improvement) {chance}"
