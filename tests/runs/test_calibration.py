"""What intervals and verdicts promise, on simulated scores whose truth is known."""

import numpy as np
import pytest

from runs.statistics import band, iqm, mean, median, optimality_gap, widened
from runs.verdict import judge


def gaussian(rng, shape):
    return rng.normal(np.linspace(0, 1, shape[-1]), 0.4, shape)


def skewed(rng, shape):
    return np.linspace(0, 1, shape[-1]) + rng.exponential(0.4, shape)


def bounded(rng, shape):
    """Between 0 and 1, from hard tasks to easy ones: skewed both ways, some near a bound."""
    tasks = shape[-1]
    return rng.beta(np.linspace(0.6, 4, tasks), np.linspace(3, 0.6, tasks), shape)


def two_levels(rng, shape):
    """A seed solves the task or does not."""
    return (rng.random(shape) < np.linspace(0.3, 0.8, shape[-1])) + 0.05 * rng.normal(size=shape)


SHAPES = [(10, 4), (10, 10)]
# A mean of exponential scores is covered a little less, as by Student's; a median of few task means jumps: more.
BOUNDS = {iqm: (0.93, 0.97), optimality_gap: (0.93, 0.97), mean: (0.92, 0.97), median: (0.93, 0.99)}
KINDS = [gaussian, skewed, bounded, two_levels]


def coverage(kind, shape, aggregate, trials, resamples, level):
    """How often an interval holds the aggregate of infinitely many runs. Trials share the drawn row numbers."""
    rng = np.random.default_rng(11)
    truth = np.mean([aggregate(kind(rng, (100_000, shape[1]))) for _ in range(3)])
    scores = np.stack([kind(rng, shape) for _ in range(trials)])
    found = band(aggregate, scores, level=level, resamples=resamples)
    return np.mean((found.low <= truth) & (truth <= found.high))


@pytest.mark.parametrize("kind", [gaussian, bounded])
def test_intervals_cover_the_truth_about_as_often_as_they_say(kind):
    shape = (10, 4)
    calibrated = coverage(kind, shape, iqm, 400, 800, widened(0.95, np.zeros(shape)))
    plain = coverage(kind, shape, iqm, 400, 800, 0.95)
    print(f"{kind.__name__}: percentile {plain:.3f}, calibrated {calibrated:.3f}")
    assert 0.93 <= calibrated <= 0.97
    assert plain < calibrated


def calls(kind, shape, correlation, trials, resamples):
    """Share of comparisons of a rule with itself in which a winner is called."""
    rng = np.random.default_rng(12)
    outcomes = []
    for _ in range(trials):
        ours, theirs, common = (kind(rng, shape) for _ in range(3))
        shared = rng.random(shape) < correlation  # this share of the pairs are equal: the correlation of all
        ours, theirs = np.where(shared, common, ours), np.where(shared, common, theirs)
        outcomes.append(judge(ours, theirs, resamples).outcome)
    assert set(outcomes) <= {"won", "lost", "undecided"}
    return np.mean([outcome != "undecided" for outcome in outcomes])


@pytest.mark.parametrize(("kind", "correlation"), [(skewed, 0.0), (two_levels, 0.5)])
def test_a_rule_does_not_win_against_itself(kind, correlation):
    called = calls(kind, (10, 4), correlation, 200, 300)
    print(f"{kind.__name__}, correlation {correlation}: a winner in {called:.3f}")
    assert called <= 0.05


def test_nothing_is_decided_by_too_few_runs_or_without_a_difference():
    scores = np.random.default_rng(0).normal(size=(10, 4))
    assert judge(scores, scores) == ("undecided", (0, 0, 0), (0.5, *judge(scores, scores).improvement[1:]))
    far = scores + 100
    assert judge(far, scores).outcome == "won"
    assert judge(scores, far).outcome == "lost"
    assert judge(far[:3, :2], scores[:3, :2]).outcome == "won"
    for runs, tasks in [(1, 4), (2, 4), (3, 1), (5, 1)]:
        assert judge(far[:runs, :tasks], scores[:runs, :tasks]).outcome == "undecided (too few runs)"
    with pytest.raises(ValueError, match="seed by seed"):
        judge(far, scores[:9])


def test_winning_takes_more_and_more_often():
    rng = np.random.default_rng(1)
    theirs = rng.normal(size=(12, 4))
    often = theirs + np.where(np.arange(4) < 3, 0.02, -50.0)  # a little more on three tasks, far less on one
    assert judge(often, theirs).difference.low > 0
    assert judge(often, theirs).outcome == "undecided"
    difference = judge(theirs + 5, theirs).difference
    np.testing.assert_allclose(difference, 5)  # pairs: what a seed adds to both is gone


def test_the_paired_view_is_sharper_where_seeds_matter():
    rng = np.random.default_rng(2)
    seed = 10 * rng.normal(size=(10, 4))
    ours, theirs = seed + rng.normal(size=(10, 4)) + 2, seed + rng.normal(size=(10, 4))
    paired, apart = judge(ours, theirs).difference, band(lambda a, b: iqm(a) - iqm(b), ours, theirs)
    assert paired.high - paired.low < 0.3 * (apart.high - apart.low)
    assert paired.low > 0 > apart.low


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_are_calibrated(kind, shape):
    level = widened(0.95, np.zeros(shape))
    for aggregate in (iqm, mean, median, optimality_gap):
        covered = coverage(kind, shape, aggregate, 2000, 1000, level)
        plain = coverage(kind, shape, aggregate, 2000, 1000, 0.95)
        print(f"{kind.__name__} {shape} {aggregate.__name__}: percentile {plain:.3f}, calibrated {covered:.3f}")
        low, high = BOUNDS[aggregate]
        assert low <= covered <= high


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("shape", [*SHAPES, (5, 4), (3, 2), (6, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_are_calibrated(kind, shape, correlation):
    called = calls(kind, shape, correlation, 400, 300)
    print(f"{kind.__name__} {shape}, correlation {correlation}: a winner in {called:.3f}")
    assert called <= 0.05
