"""Learned schedules for A2C (rate, discount, trace, entropy) on classic control, by PES over whole lifetimes."""

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.schedule import Schedule
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import PersistentES


def experiment() -> Experiment:
    return Experiment(
        name="schedule-control",
        rule=Schedule(base=ActorCritic(), learned=("learning_rate", "discount", "trace", "entropy")),
        # The suite has the published physics.
        families=(families.cartpole(1.1, 2.0), families.acrobot(1.1, 1.5), families.catch()),
        outer=GradientDescent(
            PersistentES(horizon=40, window=4, lives=32, std=0.1, stagger=True, microbatch=16), learning_rate=0.02
        ),
        objective=LifetimeReturn(),
        network=Network(MLP((32, 32))),
        inner=Inner(streams=16, steps=16, updates=400, segment=10),
        steps=600,
        transfer=Transfer(suite="classic", against=("a2c", "ppo"), seeds=10),
    )
