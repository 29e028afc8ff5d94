"""Model selection that shows the winner's curse: chosen on some seeds, believed on others."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from runs.statistics import Aggregate, Interval, Scores, calibrated, mean

Candidate = TypeVar("Candidate")


class Selected(NamedTuple, Generic[Candidate]):
    """What was chosen, and what it is worth.

    Attributes:
      choice: the candidate.
      validation: of the scores it was chosen by; too high on average, the more so the more candidates there were.
      fresh: of new runs on seeds that chose nothing: unbiased.
      scores: the validation scores of all candidates, in their order.
      fresh_scores: of the choice.
    """

    choice: Candidate
    validation: Interval
    fresh: Interval
    scores: tuple[Scores, ...]
    fresh_scores: Scores

    @property
    def optimism(self) -> float:
        """How much better the choice looked than it is."""
        return self.validation.point - self.fresh.point


def select(
    evaluate: Callable[[Candidate, int], Scores],
    candidates: Sequence[Candidate],
    seed_selection: int,
    seed_fresh: int,
    aggregate: Aggregate = mean,
) -> Selected[Candidate]:
    """Chooses the candidate with the highest aggregate, and evaluates it anew.

    Args:
      evaluate: scores of a candidate, runs x tasks, more being better, on a root seed: that of the selection is the
        same for all, so that candidates meet the same tasks. Tasks must be commensurable.
      aggregate: what candidates are compared by. One whose aggregate is not finite is chosen last; of equals, the first
        is.

    Raises:
      ValueError: there are no candidates, or both seeds are the same.
    """
    if not candidates:
        raise ValueError("there is nothing to select from")
    if seed_selection == seed_fresh:
        raise ValueError(f"seed {seed_fresh} has chosen the candidate: fresh runs need another one")
    scores = tuple(evaluate(candidate, seed_selection) for candidate in candidates)
    values = [float(aggregate(s)) for s in scores]
    best = int(np.argmax([value if np.isfinite(value) else -np.inf for value in values]))
    fresh = evaluate(candidates[best], seed_fresh)
    return Selected(candidates[best], calibrated(aggregate, scores[best]), calibrated(aggregate, fresh), scores, fresh)
