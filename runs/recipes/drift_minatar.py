"""Learned Policy Optimisation: ES over the drift of PPO on two MinAtar games, carried to the other two. Wants a GPU."""

from flax import linen as nn

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift, LearnedDrift
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import Evolution


def experiment() -> Experiment:
    """Lu et al. 2022 in a shape that fits one GPU: population 32, lifetimes of 1e6 steps."""
    ppo = Drift(
        drift=LearnedDrift(),
        coefficients=Coefficients(learning_rate=5e-3),
        optimizer=Adam(b2=0.99),
        minibatches=8,
        anneal=True,
    )
    return Experiment(
        name="drift-minatar",
        rule=ppo,
        families=(families.minatar("Breakout"), families.minatar("Asterix")),
        outer=Evolution(strategy="Open_ES", population=32, horizon=4, std=0.03, learning_rate=0.01, microbatch=4),
        objective=LifetimeReturn(),
        network=Network(MLP((64, 64), nn.relu)),
        inner=Inner(streams=64, steps=128, updates=120, segment=30),
        steps=200,
        report_every=1,
        checkpoint_every=5,
        transfer=Transfer(suite="minatar_held_out", against=("ppo", "dpo"), seeds=8),
    )
