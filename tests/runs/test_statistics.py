import numpy as np
import pytest
from scipy import stats

from runs.statistics import Interval, bootstrap, iqm, probability_of_improvement


def test_the_interquartile_mean_is_the_mean_of_the_middle_half_of_all_runs_of_all_tasks():
    assert iqm(np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 1e9]])) == 3.5  # 2 3 4 5: two cut off at each end
    scores = np.random.default_rng(0).normal(size=(7, 3))
    assert iqm(scores) == stats.trim_mean(scores.ravel(), 0.25)
    assert iqm(np.array([[1.0], [3.0]])) == 2.0  # too few to cut


def test_runs_are_resampled_within_their_task():
    scores = np.array([[0.0, 100.0]] * 5)  # tasks differ, runs do not: nothing is uncertain
    assert bootstrap(iqm, scores) == Interval(50.0, 50.0, 50.0)
    drawn = []
    bootstrap(lambda s: drawn.append(s.copy()) or 0.0, np.arange(12.0).reshape(4, 3), resamples=50)
    tasks = np.unique([s % 3 for s in drawn], axis=0)
    np.testing.assert_array_equal(tasks[0], np.tile(np.arange(3.0), (4, 1)))
    assert len(tasks) == 1
    assert any(not np.array_equal(s[:, 0], s[:, 1] - 1) for s in drawn)  # tasks independently of each other


def test_the_interval_agrees_with_scipys_on_one_task():
    scores = np.random.default_rng(1).exponential(size=(30, 1))
    theirs = stats.bootstrap((scores[:, 0],), np.mean, method="percentile", n_resamples=9999, rng=0)
    ours = bootstrap(lambda s: float(s.mean()), scores, resamples=9999)
    np.testing.assert_allclose(ours[1:], theirs.confidence_interval, atol=0.02)
    assert ours == bootstrap(lambda s: float(s.mean()), scores, resamples=9999)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    means = (bootstrap(lambda s: float(s.mean()), rng.normal(size=(10, 3)), resamples=200) for _ in range(300))
    covered = np.mean([low <= 0.0 <= high for _, low, high in means])
    # A percentile bootstrap of n = 10 covers less than it says: its standard error is short by sqrt(9 / 10).
    assert 0.87 < covered < 0.97


def test_the_probability_of_improvement_counts_pairs_within_tasks_and_ties_for_half():
    ours, theirs = np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[1.0, 5.0], [0.0, 5.0]])
    # Task 0: (1,1) tie, (1,0), (2,1), (2,0) won; task 1: four ties.
    assert probability_of_improvement(ours, theirs).point == pytest.approx((3.5 / 4 + 0.5) / 2)
    a, b = np.random.default_rng(3).normal(size=(2, 12, 1))
    u = stats.mannwhitneyu(a[:, 0], b[:, 0]).statistic
    found = probability_of_improvement(a, b)
    assert found.point == pytest.approx(u / 144)
    assert found.low <= found.point <= found.high
    assert probability_of_improvement(a + 100, b)[:] == (1.0, 1.0, 1.0)
    assert probability_of_improvement(a[:3], b).point == pytest.approx(np.mean(a[:3] > b.T))  # unequal numbers of runs
