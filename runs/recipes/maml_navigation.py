"""MAML on navigation in the plane: from 20 episodes and one gradient step to a goal that is nowhere shown."""

from learned_rl import families
from learned_rl.blueprint import Blueprint
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.maml import MAML
from meta_objectives.fresh import OnFreshSteps
from meta_objectives.history import HistoryActorCritic
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    """Finn et al. 2017, section 5.3, with learned step sizes (Meta-SGD).

    Inside is one step of gradient ascent on *normalised* advantages over ten steps or so. With plain ones of whole
    episodes, most of an advantage says how early in its episode a step was, which no value of the place can know, and
    a step leads astray the farther, the farther an agent has gone: that closed a third of the gap at best.
    """
    tasks = families.navigation()
    inside = Coefficients(learning_rate=1.0, discount=0.95, trace=0.9, entropy=0.0, value_cost=0.02)
    base = Drift(coefficients=inside, optimizer=Sgd(), epochs=1, minibatches=1)
    steps = 400
    return Experiment(
        name="maml-navigation",
        rule=MAML(base, Blueprint.of(Network(MLP((32, 32))), tasks)),
        families=(tasks,),
        outer=GradientDescent(
            TruncatedBackprop(horizon=1, window=1, lives=32, stagger=False, microbatch=16), 3e-3, 0.1 ** (1 / steps)
        ),
        objective=OnFreshSteps(HistoryActorCritic(discount=0.99, trace=0.95, entropy=0.0, critic=0.05)),
        inner=Inner(streams=20, steps=100, updates=1, segment=1),
        steps=steps,
        report_every=10,
        checkpoint_every=100,
        transfer=Transfer(suite="few_shot_navigation", against=("a2c", "ppo"), seeds=8, allow_overlap=True),
    )
