"""RL^2 on five Bernoulli arms, a hundred pulls (Duan et al. 2016); random earns 50, their agent 78.7. Five minutes."""

from learned_rl import families
from learned_rl.blueprint import Blueprint
from learned_rl.ledger_network import LedgerNetwork
from learned_rl.rules.rl2 import RL2
from meta_objectives.history import HistoryActorCritic
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    tasks = families.bandit_trials(pulls=100, credited=True)  # the return that it shows is minus the regret
    steps = 600
    return Experiment(
        name="rl2-long-bandit",
        rule=RL2(Blueprint.of(LedgerNetwork(16, cells=1, values=8, hidden=32), tasks)),
        families=(tasks,),
        outer=GradientDescent(TruncatedBackprop(horizon=1, window=1, lives=1), 4e-3, 0.05 ** (1 / steps)),
        objective=HistoryActorCritic(discount=0.99, trace=0.95, entropy=0.01, critic=0.05, scale=5.0),
        inner=Inner(streams=256, steps=tasks.episodes, updates=1, segment=1),
        steps=steps,
        report_every=20,
        checkpoint_every=100,
        transfer=Transfer(suite="longer_bandits", against=("a2c",), seeds=5),
    )
