"""VariBAD on the 5x5 grid: four episodes to find and use a hidden goal; the Bayes optimum is 37.21 a trial. 5 min."""

from learned_rl import families
from learned_rl.belief_network import BeliefNetwork
from learned_rl.blueprint import Blueprint
from learned_rl.rules.varibad import VariBAD
from meta_objectives.belief import BeliefRegularised
from meta_objectives.history import HistoryActorCritic
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    """Zintgraf et al. 2020, section 5.1, by one gradient step on each batch of trials (there: PPO).

    Many steps on small batches: 512 trials a step ended at 30 with twice the data. Two hidden layers: with the one that
    is published, at a lower rate and entropy, it was 32.
    """
    tasks = families.goal_grid_trials()
    steps = 12_000
    return Experiment(
        name="varibad-grid",
        rule=VariBAD(Blueprint.of(BeliefNetwork(hidden=(128, 128)), tasks)),
        families=(tasks,),
        # One life is a batch of trials: they share the agent, and theta is the agent.
        outer=GradientDescent(TruncatedBackprop(horizon=1, window=1, lives=1), 3e-3, 0.03 ** (1 / steps)),
        objective=BeliefRegularised(HistoryActorCritic(discount=0.95, entropy=0.05, critic=0.1, scale=5.0)),
        inner=Inner(streams=32, steps=60, updates=1, segment=1),
        steps=steps,
        report_every=100,
        checkpoint_every=1000,
        transfer=Transfer(suite="few_shot_grid", against=("a2c",), seeds=2, allow_overlap=True),
    )
