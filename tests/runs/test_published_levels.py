"""Hand-designed rules reach the levels that were published for them. Slow: `pytest -m slow`."""

import dataclasses

import numpy as np
import pytest

from learned_rl import families
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from runs import anchors
from runs.transfer import final

CARTPOLE = Lifetime(
    families.fixed("CartPole-v1"),
    Drift(coefficients=Coefficients(learning_rate=2.5e-3), anneal=True),
    Network(MLP((64, 64))),
    streams=8,
    steps=128,
    updates=200,
)

BREAKOUT = anchors.lifetime("Breakout")


def final_returns(lifetime, seeds):
    """Mean return of each seed's agent over the last tenth of its life."""
    found = []
    for seed in range(seeds):
        found.append(float(final(anchors.trained(lifetime, seed)[None])[0]))
        print(f"seed {seed}: {found[-1]:.2f}", flush=True)
    return np.array(found)


def test_the_reference_configuration_trains():
    """A few updates of each, so that the slow tests cannot rot unseen."""
    for lifetime in (BREAKOUT, CARTPOLE):
        short = dataclasses.replace(lifetime, updates=2, streams=8, steps=16)
        returns = anchors.trained(short, 0)
        assert np.all(np.isfinite(returns))
        assert returns.shape == (2,)
        assert not np.array_equal(returns, anchors.trained(short, 1))


@pytest.mark.slow
def test_ppo_solves_cartpole():
    assert final_returns(CARTPOLE, 5).mean() >= 475


@pytest.mark.slow
def test_ppo_on_breakout_is_the_published_reference():
    """50.08 in OPEN's repository (the mean of 16 seeds); within 15 % of it, and one standard error of our own mean.

    Seeds differ by as much as the mean itself: from 23 to 79 among these eight, of mean 52.4.
    """
    returns = final_returns(BREAKOUT, 8)
    anchor, error = anchors.ANCHORS["Breakout"], returns.std(ddof=1) / len(returns) ** 0.5
    assert abs(returns.mean() - anchor.published) < anchor.band * anchor.published + error
