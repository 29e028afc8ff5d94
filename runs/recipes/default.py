"""A learned policy gradient from Catch and CartPole to four environments it never saw, in minutes on two cores."""

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
    """LPG (Oh et al. 2020) with a recurrent network of 32 units, by meta-gradients through K = 5 updates."""
    network = Network(MLP((32, 32)))
    return Experiment(
        name="lpg-quick",
        rule=LPG(predictions=8, hidden=32, learning_rate=5e-3, optimizer=Adam(max_norm=1.0)),
        families=(families.catch(), families.cartpole()),
        outer=GradientDescent(
            TruncatedBackprop(horizon=40, window=1, lives=16, stagger=True, microbatch=8),
            learning_rate=2e-3,
            decay=0.995,
        ),
        objective=PolicyGradientSurrogate(
            OuterCritic(network), entropy=5e-3, policy_target=1e-3, prediction_target=1e-3
        ),
        network=network,
        inner=Inner(streams=16, steps=16, updates=200, segment=5),
        steps=400,
        report_every=10,
        checkpoint_every=100,
        transfer=Transfer(suite="small", against=("a2c", "ppo"), seeds=10),
    )
