"""The winner's curse: seen on the seeds that choose, gone on fresh ones."""

import numpy as np
import pytest
from scipy import stats

from runs.selection import select
from runs.statistics import iqm


def noisy(merits):
    """Scores of 8 runs of 3 tasks: a candidate's merit and noise of its own."""
    return lambda candidate, seed: merits[candidate] + np.random.default_rng([candidate, seed]).normal(size=(8, 3))


def test_of_candidates_of_equal_merit_the_chosen_one_looked_better_than_it_is():
    k, trials = 16, 150
    found = [select(noisy(np.zeros(k)), range(k), 2 * i, 2 * i + 1) for i in range(trials)]
    error = 1 / np.sqrt(8 * 3)
    largest = error * stats.norm.expect(lambda x: x * k * stats.norm.cdf(x) ** (k - 1))  # of k equal means, on average
    standard = error / np.sqrt(trials)
    assert np.mean([s.validation.point for s in found]) == pytest.approx(largest, abs=4 * standard)
    assert np.mean([s.fresh.point for s in found]) == pytest.approx(0, abs=4 * standard)
    assert np.mean([s.optimism for s in found]) == pytest.approx(largest, abs=6 * standard)
    covered = [np.mean([i.low <= 0 <= i.high for i in column]) for column in zip(*[s[1:3] for s in found], strict=True)]
    assert covered[0] < 0.8  # an interval around a number that was chosen for being high
    assert covered[1] > 0.9


def test_the_better_one_is_chosen_and_both_its_numbers_are_kept():
    selected = select(noisy([0.0, 9.0, 0.0]), range(3), 1, 2, aggregate=iqm)
    assert selected.choice == 1
    np.testing.assert_array_equal(selected.scores[1], noisy([0, 9.0])(1, 1))
    np.testing.assert_array_equal(selected.fresh_scores, noisy([0, 9.0])(1, 2))
    assert selected.validation.point == iqm(selected.scores[1])
    assert selected.fresh.point == iqm(selected.fresh_scores)
    assert selected.fresh.low < selected.fresh.point < selected.fresh.high
    assert selected.optimism == selected.validation.point - selected.fresh.point


def test_a_candidate_that_broke_down_is_chosen_last_and_of_equals_the_first():
    def scores(candidate, seed):
        return np.full((2, 2), candidate)

    assert select(scores, [np.nan, np.inf, -5.0], 0, 1).choice == -5.0
    assert select(lambda c, seed: np.zeros((2, 2)), "abc", 0, 1).choice == "a"


def test_what_cannot_be_selected_is_refused():
    with pytest.raises(ValueError, match="nothing to select"):
        select(noisy([]), [], 0, 1)
    with pytest.raises(ValueError, match="seed 3 has chosen"):
        select(noisy([0.0]), [0], 3, 3)
