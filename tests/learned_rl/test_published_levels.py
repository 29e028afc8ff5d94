"""PPO reaches the levels that were published for it. Minutes each, so `slow`; the numbers are printed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.families import fixed, minatar
from learned_rl.lifetime import Lifetime, mean_return
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift


def final_returns(lifetime: Lifetime, seeds: int) -> np.ndarray:
    """Mean return over the last tenth of training, per seed."""

    def life(key):
        def update(agent, key):
            agent, _, _ = lifetime.live((), agent, key)
            return agent, mean_return(agent.streams)

        return jax.lax.scan(update, lifetime.start((), key), jax.random.split(key, lifetime.updates))[1]

    keys = jax.random.split(jax.random.key(0), seeds)
    returns = jax.jit(jax.vmap(life))(keys)
    return np.asarray(jnp.mean(returns[:, -lifetime.updates // 10 :], axis=1))


@pytest.mark.slow
def test_ppo_solves_cartpole():
    rule = Drift(anneal=True)
    returns = final_returns(Lifetime(fixed("CartPole-v1"), rule, Network(), 16, 128, 250), seeds=5)
    print("CartPole-v1, 512,000 steps:", returns)
    assert returns.mean() >= 475


@pytest.mark.slow
def test_ppo_reaches_the_reference_level_on_breakout():
    """Goldie et al. 2024, "PPO with Adam": 50.08 after 1e7 steps, with their configuration; +-15 % is the band."""
    rule = Drift(
        coefficients=Coefficients(learning_rate=1e-2, discount=0.99, trace=0.95, entropy=0.01, value_cost=0.5, clip=0.2),
        optimizer=Adam(b2=0.99, eps=1e-5, max_norm=0.5),
        epochs=4,
        minibatches=8,
        anneal=True,
    )
    network = Network(MLP((64, 64), nn.relu))
    returns = final_returns(Lifetime(minatar("Breakout"), rule, network, 64, 128, 1220), seeds=1)
    print("Breakout-MinAtar, 1e7 steps:", returns)
    assert 0.85 * 50.08 <= returns.mean() <= 1.15 * 50.08
