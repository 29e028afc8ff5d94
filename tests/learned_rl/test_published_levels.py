"""Hand-designed rules reach the levels that were published for them. Slow: `pytest -m slow`."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.lifetime import Lifetime, mean_return
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift

CARTPOLE = Lifetime(
    families.fixed("CartPole-v1"),
    Drift(coefficients=Coefficients(learning_rate=2.5e-3), anneal=True),
    Network(MLP((64, 64))),
    streams=8,
    steps=128,
    updates=200,
)

# "PPO with Adam" of OPEN (Goldie et al. 2024), tuned for Breakout there; 1e7 environment steps.
BREAKOUT = Lifetime(
    families.minatar("Breakout"),
    Drift(
        coefficients=Coefficients(
            learning_rate=1e-2, discount=0.99, trace=0.95, entropy=0.01, value_cost=0.5, clip=0.2
        ),
        optimizer=Adam(b1=0.9, b2=0.99, eps=1e-5, max_norm=0.5),
        epochs=4,
        minibatches=8,
        anneal=True,
    ),
    Network(MLP((64, 64), nn.relu), separate=True),
    streams=64,
    steps=128,
    updates=10_000_000 // (64 * 128),
)


def final_returns(lifetime, seeds):
    """Mean return of each seed's agent over the last tenth of its life."""

    @jax.jit
    def life(key):
        def update(agent, key):
            agent, _, _ = lifetime.live((), agent, key)
            return agent, mean_return(agent.streams)

        keys = jax.random.split(key, lifetime.updates)
        _, returns = jax.lax.scan(update, lifetime.start((), key), keys)
        return jnp.mean(returns[-max(1, lifetime.updates // 10) :])

    found = []
    for seed in range(seeds):  # one after the other: on a CPU, lives side by side win nothing
        found.append(float(life(jax.random.key(seed))))
        print(f"seed {seed}: {found[-1]:.2f}", flush=True)
    return np.array(found)


def test_the_reference_configuration_trains():
    """A few updates of each, so that the slow tests cannot rot unseen."""
    assert BREAKOUT.updates * BREAKOUT.steps_per_update == pytest.approx(1e7, rel=1e-3)
    for lifetime in (BREAKOUT, CARTPOLE):
        short = dataclasses.replace(lifetime, updates=2, streams=8, steps=16)
        assert np.all(np.isfinite(final_returns(short, 1)))


@pytest.mark.slow
def test_ppo_solves_cartpole():
    assert final_returns(CARTPOLE, 5).mean() >= 475


@pytest.mark.slow
def test_ppo_on_breakout_is_the_published_reference():
    """50.08 in OPEN's repository (the mean of 16 seeds); within 15 % of it, and one standard error of our own mean.

    Seeds differ by as much as the mean itself: from 23 to 79 among these eight, of mean 52.4.
    """
    returns = final_returns(BREAKOUT, 8)
    error = returns.std(ddof=1) / len(returns) ** 0.5
    assert abs(returns.mean() - 50.08) < 0.15 * 50.08 + error
