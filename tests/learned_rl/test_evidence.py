"""Returns of two agents that take turns: against numpy, scipy, and a ledger kept by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from learned_rl.rules.evidence import ENOUGH, Ledger, Sample, chance
from learned_rl.types import Discrete, Heads
from tests.probes import SMALL, made

add = jax.jit(Sample.add)


@functools.cache
def normal(seed, size, mean=0.0, std=1.0):
    return np.random.default_rng(seed).normal(mean, std, size).astype(np.float32)


def sample(*parts):
    """Of parts `(returns, weights)`."""
    return functools.reduce(lambda s, part: add(s, *map(jnp.asarray, part)), parts, Sample.empty())


def test_a_sample_is_the_weighted_mean_and_variance_of_all_that_was_added():
    x, w = normal(0, 60, 1000.0), np.random.default_rng(1).uniform(size=60).astype(np.float32)
    w[::3] = 0.0  # no episode ended there: whatever stands there must not matter
    s = sample(
        *[(x[i : i + 20] * (w[i : i + 20] > 0) + 7.0 * (w[i : i + 20] == 0), w[i : i + 20]) for i in (0, 20, 40)]
    )
    x, w = x[w > 0].astype(np.float64), w[w > 0].astype(np.float64)
    np.testing.assert_allclose(s.weight, w.sum(), rtol=1e-5)
    np.testing.assert_allclose(s.mean, np.average(x, weights=w), rtol=1e-6)
    np.testing.assert_allclose(s.effective, w.sum() ** 2 / (w**2).sum(), rtol=1e-5)
    variance = np.sum(w * (x - np.average(x, weights=w)) ** 2) / (w.sum() - (w**2).sum() / w.sum())
    np.testing.assert_allclose(s.error, variance * (w**2).sum() / w.sum() ** 2, rtol=1e-3)


@pytest.mark.parametrize(("sizes", "stds"), [((9, 9), (1, 1)), ((9, 80), (3, 0.5)), ((300, 40), (0.1, 1))])
def test_the_chance_is_that_of_welchs_test(sizes, stds):
    for apart in (-0.8, 0.0, 0.3, 1.0, 1.6):
        a, b = normal(2, sizes[0], apart, stds[0]), normal(3, sizes[1], 0.0, stds[1])
        expected = stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
        found = chance(*(sample((x, np.ones_like(x))) for x in (a, b)))
        np.testing.assert_allclose(found, expected, rtol=0.02 if expected > 1e-4 else 0.2, atol=1e-9)


def test_too_few_returns_and_rounding_say_nothing():
    few, many = (sample((np.full(n, x, np.float32), np.ones(n, np.float32))) for n, x in ((7, 1.0), (80, -1.0)))
    assert ENOUGH == 8
    assert chance(few, many) == chance(many, few) == 1.0
    enough = sample((np.ones(8, np.float32), np.ones(8, np.float32)))
    assert chance(enough, many) < 1e-9  # never varied, and always another: no chance
    assert chance(many, enough) > 1 - 1e-6
    w = np.random.default_rng(0).uniform(size=80).astype(np.float32)
    same, again = (sample((np.full(80, -500.1, np.float32), v)) for v in (w, 1 - w))
    assert 0.1 < chance(same, again) < 0.9
    assert chance(Sample.empty(), many) == 1.0


@pytest.mark.parametrize("watched", [3, 6])
def test_an_episode_counts_for_both_agents_by_their_shares_of_its_steps(watched):
    """Against accounts kept in plain Python, over changes of agents; with fewer streams watched than there are, and
    with room for more."""
    _, _, rollout = made(SMALL, Discrete(2), Heads(flat={"value": 1}), seed=1)
    rewards, lasts = np.asarray(rollout.reward), np.asarray(rollout.last)
    acts = [True, True, False, True, False] * 2
    post = jax.jit(Ledger.post)
    ledger, posted = Ledger.empty(watched), []
    for a in acts:
        ledger, ended = post(ledger, rollout, jnp.asarray(a))
        posted += [(float(g), float(w), float(v)) for g, w, v in zip(*map(np.ravel, ended), strict=True) if w or v]
    expected, streams = [], min(watched, rewards.shape[1])
    running = [[0.0, 0, 0] for _ in range(streams)]
    for a in acts:
        for t in range(rewards.shape[0]):
            for b in range(streams):
                r = running[b]
                r[0], r[1], r[2] = r[0] + rewards[t, b], r[1] + 1, r[2] + a
                if lasts[t, b]:
                    expected.append((r[0], r[2] / r[1], 1 - r[2] / r[1]))
                    running[b] = [0.0, 0, 0]
    assert len(expected) > 20
    assert {0.0, 1.0} < {w for _, w, _ in expected}  # some are one agent's alone, some are shared
    np.testing.assert_allclose(posted, expected, rtol=1e-5, atol=1e-6)
    for found, row in zip(ledger, zip(*running, strict=True), strict=True):
        np.testing.assert_allclose(found[:streams], row, rtol=1e-5, atol=1e-6)
