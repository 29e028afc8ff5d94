"""RL^2 on ten episodes of a random MDP of ten states (Duan et al. 2016, section 3.2). For a GPU."""

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
    tasks = families.mdp_trials()
    steps = 2500
    return Experiment(
        name="rl2-mdp",
        rule=RL2(Blueprint.of(Network(MLP((128,), nn.relu), memory=GRU(256), separate=False), tasks)),
        families=(tasks,),
        outer=GradientDescent(TruncatedBackprop(horizon=1, window=1, lives=4, microbatch=1), 1e-3, 0.05 ** (1 / steps)),
        objective=HistoryActorCritic(discount=0.99, trace=0.9, entropy=0.02, scale=10.0),
        inner=Inner(streams=512, steps=100, updates=1, segment=1),
        steps=steps,
        report_every=50,
        checkpoint_every=500,
        transfer=Transfer(suite=""),
    )
