"""RL^2 on five Bernoulli arms and a hundred pulls (Duan et al. 2016); random earns 50, the best published 79."""

from learned_rl import families
from learned_rl.blueprint import Blueprint
from learned_rl.networks import MLP, Network
from learned_rl.rules.rl2 import RL2
from learned_rl.tally import Tally
from meta_objectives.history import HistoryActorCritic
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    tasks = families.bandit_trials(pulls=100)
    steps = 4000
    return Experiment(
        name="rl2-long-bandit",
        rule=RL2(Blueprint.of(Network(MLP(()), memory=Tally(32, cells=4, values=32), separate=False), tasks)),
        families=(tasks,),
        outer=GradientDescent(TruncatedBackprop(horizon=1, window=1, lives=1), 4e-3, 0.05 ** (1 / steps)),
        objective=HistoryActorCritic(discount=0.95, trace=0.95, entropy=0.02, critic=0.03, scale=5.0),
        inner=Inner(streams=256, steps=tasks.episodes, updates=1, segment=1),
        steps=steps,
        report_every=25,
        checkpoint_every=400,
        transfer=Transfer(suite="longer_bandits", against=("a2c",), seeds=2),
    )
