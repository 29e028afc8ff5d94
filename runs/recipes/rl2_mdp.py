"""RL^2 on ten episodes of a random MDP (Duan et al. 2016); random earns 100, their agent 156.2. Six minutes."""

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
    tasks = families.mdp_trials(credited=True)
    steps = 9600
    return Experiment(
        name="rl2-mdp",
        rule=RL2(Blueprint.of(Network(MLP(()), memory=Tally(48, cells=16, values=48), separate=False), tasks)),
        families=(tasks,),
        outer=GradientDescent(TruncatedBackprop(horizon=1, window=1, lives=1), 2e-3, 0.05 ** (1 / steps)),
        # A trial is a hundred steps of chance: looking further ahead from the start, learning begins late. Many
        # steps on small batches: with 256 trials in a step, as much data left one seed of three at 152.
        objective=HistoryActorCritic(discount=0.9, trace=0.9, entropy=0.03, critic=0.05, scale=5.0),
        inner=Inner(streams=32, steps=100, updates=1, segment=1),
        steps=steps,
        report_every=100,
        checkpoint_every=1000,
        transfer=Transfer(suite="longer_mdps", against=("a2c",), seeds=5),
    )
