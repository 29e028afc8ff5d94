"""What every estimator owes to the loop around it."""

import jax
import jax.numpy as jnp
import pytest

from tests.oracles import Mixed, mixed_theta
from truncation import (
    RTRL,
    UORO,
    AnalyticPES,
    BestProgress,
    ControlVariateES,
    ForwardGradient,
    FullES,
    GeneralizedPES,
    Geometric,
    GradientEstimator,
    ImplicitBackprop,
    InnerProblem,
    InverseVariance,
    LagBackprop,
    Neumann,
    NoiseReuseES,
    PersistentES,
    ResidualES,
    RunningMean,
    RussianRoulette,
    Sliding,
    TruncatedBackprop,
    TruncatedES,
    WienerTruncation,
    WindowGradient,
    unbiased,
)
from truncation.persistent import accumulated
from truncation.shaping import centred_ranks, z_scores

ESTIMATORS = {
    "full backprop": TruncatedBackprop(6, 6, 4),
    "truncated backprop": TruncatedBackprop(6, 2, 4, clip=1.0),
    "truncated backprop across births": TruncatedBackprop(5, 3, 4, remat=True, microbatch=2),
    "full ES": FullES(6, 4, 0.1, shaping=z_scores),
    "truncated ES": TruncatedES(6, 2, 4, 0.1),
    "truncated ES across births": TruncatedES(5, 3, 4, 0.1, stagger=False),
    "persistent ES": PersistentES(6, 2, 4, 0.1, microbatch=2),
    "persistent ES across births": PersistentES(5, 3, 4, 0.1, shaping=centred_ranks),
    "persistent ES over whole lifetimes": PersistentES(6, 6, 4, 0.1),
    "persistent ES segment by segment": PersistentES(6, 1, 4, 0.1),
    "noise reuse ES": NoiseReuseES(6, 2, 4, 0.1),
    "noise reuse ES across births": NoiseReuseES(5, 3, 4, 0.1, stagger=False),
    "noise reuse ES over whole lifetimes": NoiseReuseES(6, 6, 4, 0.1),
    "generalised persistent ES": GeneralizedPES(6, 1, 4, 0.1, block=2, microbatch=2),
    "generalised persistent ES across births": GeneralizedPES(7, 2, 4, 0.1, block=4, shaping=centred_ranks),
    "control variate": ControlVariateES(NoiseReuseES(6, 2, 6, 0.1, microbatch=2)),
    "control variate across births": ControlVariateES(PersistentES(7, 4, 4, 0.1), WindowGradient(remat=True), 0.5),
    "control variate without derivatives": ControlVariateES(NoiseReuseES(5, 3, 6, 0.1), RunningMean()),
    "control variate over whole lifetimes": ControlVariateES(FullES(6, 6, 0.1), RunningMean(), 1.0),
    "analytic persistent ES": AnalyticPES(6, 2, 4, 0.1, microbatch=2),
    "analytic persistent ES across births": AnalyticPES(7, 4, 4, 0.1, remat=True, smooth=False),
    "lag-weighted backprop": LagBackprop(6, 6, 4, Geometric(0.9)),
    "lag-weighted backprop across births": LagBackprop(5, 3, 4, Sliding(2), remat=True, microbatch=2),
    "randomized telescope": LagBackprop(6, 3, 4, RussianRoulette((1, 3), (1.0, 0.5))),
    "Wiener truncation": WienerTruncation(6, 3, 4, ResidualES(0.1), microbatch=2),
    "Wiener truncation across births": WienerTruncation(5, 3, 4, weigh=unbiased, remat=True),
    "Wiener truncation over whole lifetimes": WienerTruncation(6, 6, 4, ResidualES(0.1), BestProgress(), depth=2),
    "RTRL": RTRL(6, 2, 4),
    "RTRL across births": RTRL(5, 3, 4, microbatch=2),
    "RTRL over whole lifetimes": RTRL(6, 6, 4),
    "UORO": UORO(5, 3, 4),
    "UORO over whole lifetimes": UORO(6, 6, 4),
    "forward gradient": ForwardGradient(5, 3, 4, noise=accumulated),
    "forward gradient over whole lifetimes": ForwardGradient(6, 6, 4),
    "implicit backprop": ImplicitBackprop(6, 4, Neumann(3)),
    "inverse variance": InverseVariance((ForwardGradient(6, 2, 4), NoiseReuseES(6, 2, 4, 0.1))),
}


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.aval.weak_type), tree)


def check(estimator, problem):
    """Types are kept, nothing is compiled twice, estimates can be scanned, and all of theta gets a gradient."""
    assert isinstance(estimator, GradientEstimator)
    assert isinstance(problem, InnerProblem)
    theta, keys = mixed_theta(), jax.random.split(jax.random.key(1), 3)
    first = jax.jit(lambda theta, key: estimator.init(problem, theta, key))(theta, jax.random.key(0))
    traces = len(problem.traces)

    def step(theta, state, key):
        estimate, state = estimator.estimate(problem, theta, state, key)
        return estimate, state

    compiled, state = jax.jit(step), first
    for key in keys:
        estimate, state = compiled(theta, state, key)
    assert compiled._cache_size() == 1
    assert len(problem.traces) - traces <= 2  # 2: a padded scan under remat needs to know the shapes of a report
    assert avals(state) == avals(first)
    assert avals(estimate.gradient) == avals(theta)
    assert set(estimate.metrics) == {"count", "dead"}
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(estimate))
    assert all(bool(jnp.all(g != 0)) for g in jax.tree.leaves(estimate.gradient))
    return theta, keys, step, first, estimate


class Counted(Mixed):
    def __init__(self):
        self.traces = []

    def advance(self, theta, life, key):
        self.traces.append(None)
        return super().advance(theta, life, key)

    __hash__ = object.__hash__


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_contract_in_single_precision(name):
    check(ESTIMATORS[name], Counted())


@pytest.mark.parametrize(
    "name", ["truncated backprop across births", "persistent ES", "noise reuse ES across births", "control variate"]
)
def test_the_contract_in_double_precision_and_that_an_estimate_is_a_pure_function(name):
    with jax.enable_x64(True):
        theta, keys, step, first, last = check(ESTIMATORS[name], Counted())

        def scanned(state, key):
            estimate, state = step(theta, state, key)
            return state, estimate

        _, stacked = jax.jit(lambda state: jax.lax.scan(scanned, state, keys))(first)
    pairs = zip(*map(jax.tree.leaves, (stacked, last)), strict=True)
    assert all(bool(jnp.allclose(s[-1], x, rtol=1e-6)) for s, x in pairs)


@pytest.mark.parametrize(
    "estimator",
    [WienerTruncation(6, 3, 4, ResidualES(0.1), BestProgress()), ImplicitBackprop(6, 4), ESTIMATORS["control variate"]],
)
def test_nothing_is_factorised_by_lapack(estimator):
    # On a host of few cores, LAPACK inside loops over the lives of several devices can wait for ever.
    theta, key = mixed_theta(), jax.random.key(0)
    state = jax.eval_shape(lambda: estimator.init(Mixed(), theta, key))
    lowered = jax.jit(lambda state: estimator.estimate(Mixed(), theta, state, key)).lower(state)
    assert "lapack" not in lowered.as_text()
