"""Rules are learned: a few outer steps lower the loss, and what comes out beats its untrained start."""

import dataclasses

import jax
import numpy as np
import pytest

from learned_rl import families
from learned_rl.learned_optimizers.borrowed import AdafactorMLP, ElementMLP, LearnableAdam
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.recurrent import Optim4RL, Recurrent
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.optimizers import Adam, Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.auxiliary import Auxiliary
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.disco.meta_network import MetaNetwork
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.disco.values import CategoricalValues
from learned_rl.rules.drift import Drift, LearnedDrift
from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.validation import ValidationReturn
from runs.catalogue import recipe
from runs.experiment import Experiment, Inner
from runs.learners import GradientDescent
from runs.programs import Programs
from runs.statistics import bootstrap, iqm
from runs.transfer import train_agents
from runs.trials import Trial
from tests.probes import SMALL, FaintCue, MatchCue, PaidLate
from truncation import TruncatedBackprop

FAST, SLOW = (Coefficients(learning_rate=rate, entropy=0.0) for rate in (0.02, 0.001))
TIGHT = Coefficients(learning_rate=0.01, entropy=0.0, clip=0.001)
# A clip this tight all but stops PPO after the first of its epochs: the drift can learn to lift it.
RULES = {
    "ta-lpg": LPG(predictions=4, hidden=8, learning_rate=0.02, temporal=True),
    "ta-drift": Drift(LearnedDrift(hidden=8, temporal=True), TIGHT, epochs=4, minibatches=1),
    "metagenrl": MetaGenRL(hidden=8, coefficients=FAST),
    # Adam at a rate that gets nowhere in sixteen updates, and what is added to it.
    "open": Optimised(ActorCritic(SLOW), Residual(Adam(), Open(4))),
    "optim4rl": Optimised(ActorCritic(SLOW), Residual(Adam(), Optim4RL(4, width=4))),
}
SHORT_SIGHTED = Coefficients(learning_rate=0.02, entropy=0.0, discount=0.0)
FAINT = Coefficients(learning_rate=1.0, entropy=0.0)
# More families, in the slow test alone.
MORE = {
    "lpg": LPG(predictions=4, hidden=8, learning_rate=0.02),
    "drift": Drift(LearnedDrift(hidden=8), TIGHT, epochs=4, minibatches=1),
    "disco": Disco(
        MetaNetwork(4, hidden=8, lifetime_hidden=5, embedding=8), CategoricalValues(11, limit=2.0), learning_rate=0.03
    ),
    "recurrent": Optimised(ActorCritic(SLOW), Residual(Adam(), Recurrent(4))),
    "learnable adam": Optimised(ActorCritic(SLOW), LearnableAdam()),
    "element mlp": Optimised(ActorCritic(SLOW), Residual(Adam(), ElementMLP())),
    "adafactor mlp": Optimised(ActorCritic(SLOW), Residual(Adam(), AdafactorMLP())),
    "schedule": Schedule(ActorCritic(SLOW), hidden=4),
    "self-tuning": SelfTuning(ActorCritic(SLOW)),
    "step reward": Intrinsic(ActorCritic(SHORT_SIGHTED), StateActionReward(8, 2, 2)),
    "lifetime reward": Intrinsic(ActorCritic(SHORT_SIGHTED), LifetimeReward(8, 2, 2)),
    # By gradient descent: it is slow where features are small, and questions can make them large.
    "auxiliary": Auxiliary(ActorCritic(FAINT, Sgd()), questions=4, hidden=8, observation=2, answer_rate=0.1),
}
# What a reward or a question can be good for is not in `MatchCue`: whoever looks at its cue is paid at once.
TASKS = {"step reward": PaidLate(2), "lifetime reward": PaidLate(2), "auxiliary": FaintCue()}
NETWORKS = {"auxiliary": dataclasses.replace(SMALL, separate=False)}
# Disco asks for nothing at first, and untrained questions are of little use: both would take long to begin.
OUTER_RATES = {"disco": 0.1, "auxiliary": 0.05}


def beats_its_start(e):
    """Whether 16 agents of other seeds do better by what is learned than by its untrained start, in every family."""
    programs = Programs(e)
    state = programs.birth()
    untrained = jax.tree.map(np.array, e.outer.theta(state))
    for step in range(0, e.steps, e.report_every):
        state, metrics = programs.advance(state, step)
        print(step, metrics["meta/loss"], flush=True)
    won = []
    for family in e.families:
        trial = Trial(family, e.network, e.inner.streams, e.inner.steps, e.inner.updates)
        learned, start = (
            bootstrap(iqm, train_agents(trial, e.rule, theta, seeds=16, seed=1_000_003).scores[:, None])
            for theta in (e.outer.theta(state), untrained)
        )
        print(f"{family.name}: learned {learned}, untrained {start}")
        won.append(learned.low > start.high)
    return all(won)


def on_cues(name, rule, steps):
    """Meta-gradients of agents that have sixteen updates to learn that a cue is to be looked at."""
    return Experiment(
        name=name,
        rule=rule,
        families=(TASKS.get(name, MatchCue()),),
        outer=GradientDescent(
            TruncatedBackprop(horizon=4, window=2, lives=16, stagger=True, microbatch=16),
            learning_rate=OUTER_RATES.get(name, 0.02),
        ),
        objective=ValidationReturn(OuterCritic(SMALL)),
        network=NETWORKS.get(name, SMALL),
        inner=Inner(streams=8, steps=4, updates=16, segment=4),
        report_every=3,
        checkpoint_every=3,
        steps=steps,
    )


# The two temporally-aware ones are alike here: both see when it is.
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "ta-drift" else n for n in RULES])
def test_the_loss_goes_down_in_a_few_outer_steps(name):
    programs = Programs(on_cues(name, RULES[name], 30))
    state = programs.birth()
    losses = []
    for step in range(0, 30, 3):
        state, metrics = programs.advance(state, step)
        losses.append(metrics["meta/loss"])
    print(losses)
    # That every leaf of theta has a gradient is in the contract of rules.
    assert np.mean(losses[-3:]) < losses[0] - 0.01


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of learned_optimization
@pytest.mark.parametrize("name", [*RULES, *MORE])
def test_what_is_learned_beats_its_untrained_start_on_held_out_seeds(name):
    try:
        assert beats_its_start(on_cues(name, (RULES | MORE)[name], 99))
    except ImportError as missing:
        pytest.skip(str(missing))


@pytest.mark.slow
def test_temporally_aware_lpg_beats_its_untrained_start_on_held_out_seeds():
    """The recipe `default`, on Catch alone and with n / N and log N among the inputs; 16 agents of other seeds each."""
    base = recipe("default")
    rule = dataclasses.replace(base.rule, temporal=True)
    assert beats_its_start(dataclasses.replace(base, name="ta-lpg", rule=rule, families=(families.catch(),)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open-catch", "joint"])
def test_what_starts_as_ppo_with_adam_beats_it_on_held_out_seeds(name):
    """Recipes: an optimizer alone, from a rate of 3e-4; and everything together, from a usual one."""
    assert beats_its_start(recipe(name))
