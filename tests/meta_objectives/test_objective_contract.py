"""What every objective owes to estimators. A new objective is one line in `OBJECTIVES`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meta_objectives
from learned_rl.belief_network import BeliefNetwork
from learned_rl.blueprint import Blueprint
from learned_rl.goal_tasks import GoalGrid
from learned_rl.lifetime import Lifetime
from learned_rl.memories import GRU
from learned_rl.networks import MLP, Network
from learned_rl.rules.intrinsic.value import LifetimeValue
from learned_rl.rules.varibad import Decoder, VariBAD
from learned_rl.trials import Trials
from meta_objectives.belief import BeliefRegularised
from meta_objectives.bootstrapped import Bootstrapped
from meta_objectives.fresh import OnFreshSteps
from meta_objectives.history import HistoryActorCritic
from meta_objectives.lifetime import LifetimeSurrogate
from meta_objectives.matching import Weighted, policy_kl, reverse_policy_kl, value_error
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaObjective, MetaProblem
from meta_objectives.returns import LifetimeReturn
from meta_objectives.sampling import SamplingCorrected
from meta_objectives.telescoped import Telescoped
from meta_objectives.validation import PolicyGradientSurrogate, ValidationReturn
from tests.enumeration import Rated, Written
from tests.probes import MatchCue, jitter
from truncation import PersistentES, TruncatedBackprop

# Each cell compiles a program: the smallest agent there is, born without random matrices.
NETWORK = Written(Network(MLP(()), separate=False), samples=True)
CRITIC = OuterCritic(NETWORK, epochs=1)
BOTH = Weighted(((1.0, reverse_policy_kl), (0.5, value_error)))
OBJECTIVES = {
    "lifetime return": LifetimeReturn(),
    "lifetime surrogate": LifetimeSurrogate(),
    "history": HistoryActorCritic(),
    "belief": BeliefRegularised(),
    "corrected fresh history": SamplingCorrected(OnFreshSteps()),
    "surrogate": PolicyGradientSurrogate(CRITIC),
    "validation return": ValidationReturn(CRITIC),
    "bootstrapped": Bootstrapped(PolicyGradientSurrogate(CRITIC), 2, policy_kl),
    "bootstrapped by the rule alone": Bootstrapped(None, 1, BOTH),
    "corrected lifetime return": SamplingCorrected(LifetimeReturn()),
    "corrected validation return": SamplingCorrected(ValidationReturn(CRITIC)),
    "terminal validation return": Telescoped(ValidationReturn(CRITIC)),
    "terminal corrected return": SamplingCorrected(Telescoped(LifetimeReturn())),
}
# An objective that reads something of the rule's theta.
TRIALS = Trials(GoalGrid(3, 2), 2)
BELIEVING = VariBAD(Blueprint.of(BeliefNetwork(1, 2, GRU(2), (2,)), TRIALS), Decoder(()))
RULES = {"lifetime surrogate": LifetimeValue(Rated(), 6, 2, 2), "belief": BELIEVING}
ESTIMATORS = {
    "backprop": TruncatedBackprop(2, 1, 2, stagger=False),
    "persistent ES": PersistentES(2, 1, 2, 0.1, stagger=False),
}


class Program:
    """One compiled program for everything that is asked of an objective and an estimator: a birth, three estimates."""

    def __init__(self, objective, estimator, rule):
        problem = MetaProblem(
            Lifetime(TRIALS if rule is BELIEVING else MatchCue(2), rule, NETWORK, streams=2, steps=3, updates=4),
            objective,
            2,
        )
        self.theta = rule.init(jax.random.key(0))
        if isinstance(rule, LifetimeValue):  # whose output starts at zero
            self.theta["value"] = jitter(self.theta["value"], jax.random.key(0), 0.3)
        self.types = []

        def estimate(state, key):
            found, after = estimator.estimate(problem, self.theta, state, key)
            self.types.append((avals(state), avals(after), avals(found)))
            return after, found

        @jax.jit
        def estimates(key):
            keys = jax.random.split(key, 4)
            return jax.lax.scan(estimate, estimator.init(problem, self.theta, keys[0]), keys[1:])[1]

        self.estimates = estimates(jax.random.key(2))


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.aval.weak_type), tree)


@functools.cache
def program(objective, estimator):
    return Program(OBJECTIVES[objective], ESTIMATORS[estimator], RULES.get(objective, Rated()))


# Where both columns of a wrapper's parts are in the table, its own second one can wait.
LATER = (
    "belief",
    "corrected fresh history",
    "bootstrapped by the rule alone",
    "corrected lifetime return",
    "corrected validation return",
)
SLOW = [(objective, "persistent ES") for objective in LATER]
table = pytest.mark.parametrize(
    ("objective", "estimator"),
    [pytest.param(o, e, marks=[pytest.mark.slow] if (o, e) in SLOW else []) for o in OBJECTIVES for e in ESTIMATORS],
)


def test_every_objective_has_a_row():
    rows = {type(part) for row in OBJECTIVES.values() for part in (row, getattr(row, "base", None))}
    classes = {getattr(meta_objectives, name) for name in meta_objectives.__all__} - {MetaObjective}
    assert {c for c in classes if hasattr(c, "judge")} <= rows
    assert all(isinstance(row, MetaObjective) for row in OBJECTIVES.values())


@table
def test_estimates_are_finite_and_nothing_changes_its_type(objective, estimator):
    p = program(objective, estimator)
    assert np.all(p.estimates.metrics["dead"] == 0)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(p.estimates))
    # Traced once, with a state that comes out as it went in: so a second call would find the program of the first.
    ((before, after, found),) = p.types
    assert after == before
    assert found.gradient == avals(p.theta)
    assert found.loss == ((), jnp.float32, False)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_backprop_finds_a_gradient_in_every_leaf_of_theta_if_the_objective_has_one(objective):
    p = program(objective, "backprop")
    moved = [bool(np.any(g != 0)) for g in jax.tree.leaves(p.estimates.gradient)]
    # A return is a number like any other to whoever differentiates: what was sampled is data.
    assert moved == [objective != "lifetime return"] * len(moved)
