"""What every objective owes to estimators. A new objective is one line in `OBJECTIVES`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meta_objectives
from learned_rl.lifetime import Lifetime
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.schedule import Schedule
from meta_objectives.bootstrapped import Bootstrapped
from meta_objectives.matching import Weighted, policy_kl, reverse_policy_kl, value_error
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaObjective, MetaProblem
from meta_objectives.returns import LifetimeReturn
from meta_objectives.sampling import SamplingCorrected
from meta_objectives.telescoped import Telescoped
from meta_objectives.validation import PolicyGradientSurrogate, ValidationReturn
from tests.probes import SMALL, MatchCue, jitter
from truncation import PersistentES, TruncatedBackprop

CRITIC = OuterCritic(SMALL, epochs=1)
BOTH = Weighted(((1.0, reverse_policy_kl), (0.5, value_error)))
OBJECTIVES = {
    "lifetime return": LifetimeReturn(),
    "surrogate": PolicyGradientSurrogate(CRITIC),
    "validation return": ValidationReturn(CRITIC),
    "bootstrapped": Bootstrapped(PolicyGradientSurrogate(CRITIC), 2, policy_kl),
    "bootstrapped by the rule alone": Bootstrapped(None, 1, BOTH),
    "corrected lifetime return": SamplingCorrected(LifetimeReturn()),
    "corrected validation return": SamplingCorrected(ValidationReturn(CRITIC)),
    "terminal validation return": Telescoped(ValidationReturn(CRITIC)),
    "terminal corrected return": SamplingCorrected(Telescoped(LifetimeReturn())),
}
ESTIMATORS = {"backprop": TruncatedBackprop(3, 2, 2, stagger=False), "persistent ES": PersistentES(3, 2, 2, 0.1)}
# Each cell compiles a program: those of one column are of wrappers whose parts are in the table anyway.
SLOW = {("terminal validation return", "backprop"), ("corrected validation return", "persistent ES")}
RULE = Schedule(ActorCritic(), hidden=2, learned=("learning_rate", "discount"))


class Program:
    """One compiled program for everything that is asked of an objective and an estimator."""

    def __init__(self, objective, estimator):
        lifetime = Lifetime(MatchCue(2), RULE, SMALL, streams=2, steps=3, updates=6)
        problem = MetaProblem(lifetime, objective, 2)
        self.traced = 0

        def estimate(theta, state, key):
            self.traced += 1
            return estimator.estimate(problem, theta, state, key)

        self.theta = jitter(jax.jit(RULE.init)(jax.random.key(0)), jax.random.key(1), 0.3)
        self.first = jax.jit(lambda key: estimator.init(problem, self.theta, key))(jax.random.key(2))
        compiled, state = jax.jit(estimate), self.first
        self.estimates = []
        for key in jax.random.split(jax.random.key(3), 3):
            found, state = compiled(self.theta, state, key)
            self.estimates.append(found)
        self.last = state


@functools.cache
def program(objective, estimator):
    return Program(OBJECTIVES[objective], ESTIMATORS[estimator])


table = pytest.mark.parametrize(
    ("objective", "estimator"),
    [pytest.param(o, e, marks=[pytest.mark.slow] if (o, e) in SLOW else []) for o in OBJECTIVES for e in ESTIMATORS],
)


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.aval.weak_type), tree)


def test_every_objective_has_a_row():
    rows = {type(part) for row in OBJECTIVES.values() for part in (row, getattr(row, "base", None))}
    classes = {getattr(meta_objectives, name) for name in meta_objectives.__all__} - {MetaObjective}
    assert {c for c in classes if hasattr(c, "judge")} <= rows
    assert all(isinstance(row, MetaObjective) for row in OBJECTIVES.values())


@table
def test_estimates_are_finite_and_of_the_types_of_theta(objective, estimator):
    p = program(objective, estimator)
    for found in p.estimates:
        assert found.metrics["dead"] == 0
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))
        assert avals(found.gradient) == avals(p.theta)
        assert found.loss.dtype == jnp.float32


@table
def test_the_state_keeps_its_types_and_nothing_compiles_twice(objective, estimator):
    p = program(objective, estimator)
    assert avals(p.last) == avals(p.first)
    assert p.traced == 1


@table
def test_every_leaf_of_theta_gets_a_gradient_if_the_objective_has_one(objective, estimator):
    p = program(objective, estimator)
    moved = [bool(np.any(g != 0)) for g in jax.tree.leaves(p.estimates[-1].gradient)]
    # A return is a number like any other to whoever differentiates: what was sampled is data.
    assert moved == [(objective, estimator) != ("lifetime return", "backprop")] * len(moved)
