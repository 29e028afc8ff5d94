"""Aggregates and intervals: against closed forms, scipy, rliable's recorded values, and the truth they should cover."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from runs import statistics
from runs.statistics import (
    Interval,
    band,
    bootstrap,
    calibrated,
    improvement,
    iqm,
    mean,
    median,
    optimality_gap,
    profile,
    widened,
)

RLIABLE = json.loads((Path(__file__).parent / "rliable.json").read_text())
AGGREGATES = {"iqm": iqm, "median": median, "mean": mean, "optimality_gap": optimality_gap}


def test_the_same_resamples_give_rliables_intervals(monkeypatch):
    """Drawn as rliable draws them: point and ends to 1e-12, for every aggregate, profile and P(improvement)."""
    resamples = RLIABLE["about"]["resamples"]["same_draws"]
    for case in RLIABLE["cases"]:
        streams = np.random.RandomState(case["seed"])  # both samples in turn, as numpy's global state gave them

        class Theirs:
            def integers(self, runs, size, streams=streams):
                return streams.choice(runs, size, replace=True)

        monkeypatch.setattr(np.random, "default_rng", lambda _, theirs=Theirs: theirs())
        monkeypatch.setattr(statistics, "CELLS", 1)  # one resample at once, as there
        for name, found in every(case, resamples, lambda seed=case["seed"], s=streams: s.seed(seed)):
            np.testing.assert_allclose(np.array(found), case["same_draws"][name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", RLIABLE["cases"], ids=lambda case: case["scores"])
def test_points_and_intervals_are_those_of_rliable(case):
    """With draws of our own, as many as rliable's: points to 1e-12, ends within 2 % of the interval's width.

    A profile is a share of runs, and so are its ends: they may differ by one run, which is more than 2 %.
    """
    for name, found in every(case, RLIABLE["about"]["resamples"]["own_draws"], lambda: None):
        point, low, high = map(np.asarray, case["own_draws"][name])
        np.testing.assert_allclose(found[0], point, rtol=0, atol=1e-12)
        allowed = 1 / np.size(case["ours"]) if name == "profile" else 0.02 * (high - low)
        assert np.all(np.abs(found[1] - low) <= allowed + 1e-12), (name, found, case["own_draws"][name])
        assert np.all(np.abs(found[2] - high) <= allowed + 1e-12), (name, found, case["own_draws"][name])


def every(case, resamples, reseed):
    """All that was recorded, computed here."""
    ours, theirs, taus = np.array(case["ours"]), np.array(case["theirs"]), np.array(RLIABLE["taus"])
    for name, aggregate in AGGREGATES.items():
        reseed()
        yield name, bootstrap(aggregate, ours, resamples=resamples["aggregates"])
    reseed()
    yield "profile", band(profile(taus), ours, resamples=resamples["profile"])
    if "improvement" in resamples:  # rliable takes milliseconds for each
        reseed()
        yield "improvement", bootstrap(improvement, ours, theirs, resamples=resamples["improvement"])


def test_aggregates_by_hand():
    scores = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 1e9]])
    assert iqm(scores) == 3.5  # 2 3 4 5: two cut off at each end
    assert iqm(np.array([[1.0], [3.0]])) == 2.0  # too few to cut
    assert median(np.array([[0.0, 1.0, 9.0], [2.0, 3.0, 90.0]])) == 2.0  # of the tasks' means 1, 2, 49.5
    assert mean(scores[:3]) == 2.5
    assert optimality_gap(np.array([[0.5, 3.0], [-1.0, 1.0]])) == pytest.approx((0.5 + 0 + 2 + 0) / 4)
    np.testing.assert_allclose(profile(np.array([-1.0, 2.0, 5.5]))(scores), [1, 5 / 8, 2 / 8])  # above, not at


@pytest.mark.parametrize("aggregate", [*AGGREGATES.values(), profile(np.array([0.0, 0.5]))])
def test_aggregates_keep_the_axes_that_lead(aggregate):
    scores = np.random.default_rng(0).normal(size=(2, 3, 7, 4))
    every = aggregate(scores)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(every[i], aggregate(scores[i]), rtol=1e-14)


def test_the_probability_of_improvement_counts_pairs_within_tasks_and_ties_for_half():
    ours, theirs = np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[1.0, 5.0], [0.0, 5.0]])
    # Task 0: (1,1) tie, (1,0), (2,1), (2,0) won; task 1: four ties.
    assert improvement(ours, theirs) == pytest.approx((3.5 / 4 + 0.5) / 2)
    a, b = np.random.default_rng(3).normal(size=(2, 12, 1))
    assert improvement(a, b) == pytest.approx(stats.mannwhitneyu(a[:, 0], b[:, 0]).statistic / 144)
    assert bootstrap(improvement, a + 100, b) == (1.0, 1.0, 1.0)
    assert improvement(a[:3], b) == pytest.approx(np.mean(a[:3] > b.T))  # unequal numbers of runs


def test_runs_are_resampled_within_their_task():
    scores = np.array([[0.0, 100.0]] * 5)  # tasks differ, runs do not: nothing is uncertain
    assert bootstrap(iqm, scores) == Interval(50.0, 50.0, 50.0)
    seen = []
    bootstrap(lambda s: seen.append(s) or mean(s), np.arange(12.0).reshape(4, 3), resamples=50)
    drawn, original = seen
    assert drawn.shape == (50, 4, 3)
    np.testing.assert_array_equal(drawn % 3, np.broadcast_to(np.arange(3.0), (50, 4, 3)))
    assert any(not np.array_equal(s[:, 0], s[:, 1] - 1) for s in drawn)  # tasks independently of each other
    assert set(np.unique(drawn)) == set(np.unique(original))


def test_what_shares_its_runs_is_resampled_together_and_samples_apart():
    a = np.random.default_rng(0).normal(size=(6, 2))
    np.testing.assert_allclose(bootstrap(lambda s: mean(s)[..., 0] - mean(s)[..., 1], np.stack([a + 3, a])), 3.0)
    apart = bootstrap(lambda a, b: mean(a) - mean(b), a + 3, a)
    assert apart.low < 2.9
    assert apart.high > 3.1


def test_the_bound_on_memory_changes_no_bit(monkeypatch):
    a, b = np.random.default_rng(1).normal(size=(2, 6, 3))
    whole = bootstrap(improvement, a, b, resamples=100)
    sizes = []
    monkeypatch.setattr(statistics, "CELLS", 36 * 7)
    parts = bootstrap(lambda a, b: sizes.append(len(a)) or improvement(a, b), a, b, resamples=100)
    assert parts == whole
    assert sizes[:15] == [7] * 14 + [2]


def test_the_interval_agrees_with_scipys_on_one_task():
    scores = np.random.default_rng(1).exponential(size=(30, 1))
    theirs = stats.bootstrap((scores[:, 0],), np.mean, method="percentile", n_resamples=9999, rng=0)
    ours = bootstrap(mean, scores, resamples=9999)
    np.testing.assert_allclose(ours[1:], theirs.confidence_interval, atol=0.02)
    assert ours == bootstrap(mean, scores, resamples=9999)
    assert ours != bootstrap(mean, scores, resamples=9999, seed=1)
    narrow = bootstrap(mean, scores, level=0.5)
    assert ours.low < narrow.low < narrow.point < narrow.high < ours.high


def test_few_runs_widen_intervals_to_students():
    """Of a mean: resamples give sd sqrt((n - 1) / n) z, and Student's interval is sd t wide."""
    assert widened(0.95, np.zeros((10, 4))) == pytest.approx(
        2 * stats.norm.cdf(np.sqrt(10 / 9) * stats.t.ppf(0.975, 36)) - 1
    )
    assert widened(0.95, np.zeros((10, 4)), np.zeros((5, 4))) == widened(0.95, np.zeros((5, 4)))
    assert widened(0.95, np.zeros((100_000, 1))) == pytest.approx(0.95, abs=1e-5)
    assert widened(0.95, np.zeros((1, 4))) == 0.95
    scores = np.random.default_rng(0).normal(size=(12, 1))
    student = stats.ttest_1samp(scores[:, 0], 0).confidence_interval(0.95)
    np.testing.assert_allclose(calibrated(mean, scores, resamples=50_000)[1:], student, atol=0.12)
