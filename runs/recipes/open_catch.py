"""OPEN from an Adam start: evolution of a network that corrects every step of PPO on Catch; minutes on two cores."""

from learned_rl import families
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.optimised import Optimised
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import Evolution


def experiment() -> Experiment:
    """Goldie et al. 2024 in small: population 16 for 64, lifetimes of 40 rollouts.

    Adam's rate is a tenth of the usual, so that the start learns, and leaves room.
    """
    ppo = Drift(coefficients=Coefficients(learning_rate=3e-4), epochs=2, minibatches=2)
    return Experiment(
        name="open-catch",
        rule=Optimised(ppo, Residual(Adam(), Open())),
        families=(families.catch(5, 5),),
        outer=Evolution(strategy="Open_ES", population=16, horizon=4, std=0.03, learning_rate=0.03, microbatch=8),
        objective=LifetimeReturn(),
        network=Network(MLP((16, 16))),
        inner=Inner(streams=16, steps=8, updates=40, segment=10),
        steps=100,
        report_every=5,
        checkpoint_every=25,
        transfer=Transfer(suite="small", against=("a2c", "ppo"), seeds=10),
    )
