"""Learned policy gradient from mazes, chains and bandits to classic control, bsuite and MinAtar: the long run."""

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.lpg import LPG
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.validation import PolicyGradientSurrogate
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    """Oh et al. 2020 with their K = 5 and m = 30, in lives of 400 updates."""
    network = Network(MLP((64, 64)))
    return Experiment(
        name="lpg-grid",
        rule=LPG(predictions=30, hidden=64, optimizer=Adam(max_norm=1.0)),
        families=(
            families.meta_maze(),
            families.four_rooms(),
            families.catch(),
            families.discounting_chain(),
            families.bernoulli_bandit(),
            families.simple_bandit(),
        ),
        outer=GradientDescent(
            TruncatedBackprop(horizon=80, window=1, lives=64, stagger=True, microbatch=16), learning_rate=3e-4
        ),
        objective=PolicyGradientSurrogate(OuterCritic(network), policy_target=1e-3, prediction_target=1e-3),
        network=network,
        inner=Inner(streams=32, steps=20, updates=400, segment=5),
        steps=5000,
        report_every=10,
        checkpoint_every=100,
        transfer=Transfer(suite="grid_to_all", against=("a2c", "ppo"), seeds=10),
    )
