"""RL^2 on five Bernoulli arms and ten pulls (Duan et al. 2016); random earns 5, the Bayes optimum 6.66."""

from flax import linen as nn

from learned_rl import families
from learned_rl.blueprint import Blueprint
from learned_rl.memories import GRU
from learned_rl.networks import MLP, Network
from learned_rl.rules.rl2 import RL2
from meta_objectives.history import HistoryActorCritic
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    tasks = families.bandit_trials()
    steps = 4000
    return Experiment(
        name="rl2-bandit",
        rule=RL2(Blueprint.of(Network(MLP((64,), nn.relu), memory=GRU(64), separate=False), tasks)),
        families=(tasks,),
        # One life is a batch of trials: they share the agent, and theta is the agent.
        outer=GradientDescent(TruncatedBackprop(horizon=1, window=1, lives=1), 5e-3, 0.05 ** (1 / steps)),
        objective=HistoryActorCritic(discount=1.0, trace=0.9, entropy=0.02, scale=5.0),
        inner=Inner(streams=1024, steps=tasks.episodes, updates=1, segment=1),
        steps=steps,
        report_every=50,
        checkpoint_every=500,
        transfer=Transfer(suite="few_shot_bandits", against=("a2c",), seeds=2, allow_overlap=True),
    )
