"""MAML on navigation in the plane: from 20 episodes and one gradient step to a goal that is nowhere shown."""

from learned_rl import families
from learned_rl.blueprint import Blueprint
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.maml import MAML
from meta_objectives.fresh import OnFreshSteps
from meta_objectives.history import HistoryActorCritic, plain
from meta_objectives.sampling import SamplingCorrected
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    """Finn et al. 2017, section 5.3, with learned step sizes and the correction for what the agent's data owe to it."""
    tasks = families.navigation()
    inside = Coefficients(learning_rate=0.5, discount=0.99, trace=1.0, entropy=0.0, value_cost=0.02)
    judge = HistoryActorCritic(discount=0.99, trace=1.0, entropy=0.0, critic=0.05, weigh=plain)  # as corrected
    steps = 300
    return Experiment(
        name="maml-navigation",
        rule=MAML(ActorCritic(inside, Sgd()), Blueprint.of(Network(MLP((32, 32))), tasks)),
        families=(tasks,),
        outer=GradientDescent(
            TruncatedBackprop(horizon=1, window=1, lives=32, stagger=False, microbatch=16), 5e-3, 0.2 ** (1 / steps)
        ),
        # 0.35 a step is what an agent earns that stays where it is.
        objective=SamplingCorrected(OnFreshSteps(judge), expected=0.35),
        inner=Inner(streams=20, steps=100, updates=1, segment=1),
        steps=steps,
        report_every=10,
        checkpoint_every=100,
        transfer=Transfer(suite="few_shot_navigation", against=("a2c", "ppo"), seeds=8, allow_overlap=True),
    )
