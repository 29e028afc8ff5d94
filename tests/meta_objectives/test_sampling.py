"""Exactly unbiased, by enumeration of every history that a lifetime can have."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.memories import GRU
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.lpg import LPG
from learned_rl.types import Heads
from meta_objectives.bootstrapped import Bootstrapped
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaObjective, MetaProblem
from meta_objectives.returns import LifetimeReturn
from meta_objectives.sampling import SamplingCorrected
from meta_objectives.telescoped import Telescoped
from meta_objectives.validation import PolicyGradientSurrogate, ValidationReturn
from tests.enumeration import (
    KEY,
    Bandit,
    ExactReturn,
    Logits,
    Rated,
    Written,
    double,
    expectation,
    expected_loss,
    tables,
)
from tests.probes import jitter
from truncation import TruncatedBackprop

# The enumerated policy-gradient bandit of the reference (O7); its constants come from an independent computation.

PAY = (1.0, 0.5, -0.2)
START = (0.0, 0.2, 0.4)


def surrogate(log_prob, reward):
    return jnp.mean(reward * log_prob)


def dice(log_prob, reward):
    """Foerster et al. 2018: differentiating it again also differentiates the sampling distribution."""
    return jnp.mean(reward * jnp.exp(log_prob - jax.lax.stop_gradient(log_prob)))


@dataclass(frozen=True)
class Reinforce:
    """logits + exp(eta) grad `gain`; theta: eta, and the logits at birth."""

    gain: object = surrogate
    heads = Heads()

    def init(self, key):
        return {"eta": jnp.log(jnp.asarray(2.0)), "birth": jnp.asarray(START)}

    def birth(self, theta, policy, key):
        return theta["birth"], ()

    def update(self, theta, params, state, rollout, policy, key):
        def gained(params):
            return self.gain(policy.unroll(params, rollout).policy.log_prob(rollout.action), rollout.reward)

        step = jax.grad(gained)(params)
        return params + jnp.exp(theta["eta"]) * step, (), {}


def bandit(objective, samples, updates, segment=None, gain=surrogate):
    def problem(table, instead):
        lifetime = Lifetime(
            Bandit(PAY, table), Reinforce(gain), Written(Logits(START)), streams=1, steps=samples, updates=updates
        )
        return MetaProblem(lifetime, instead or objective, segment or updates)

    return problem, tables(len(PAY), samples * updates)


def backprop(theta, key=jax.random.key(5)):  # noqa: B008
    """The real estimator on one whole lifetime."""

    def gradient(problem):
        estimator = TruncatedBackprop(horizon=problem.segments, window=problem.segments, lives=1)
        return estimator.estimate(problem, theta, estimator.init(problem, theta, key), key)[0].gradient

    return gradient


@functools.cache
def truth(samples, updates):
    """`(J, gradient)` of the enumerated expectation: in loss's sign, as numpy in float64."""
    with jax.enable_x64(True):
        problem, histories = bandit(ExactReturn(), samples, updates)
        theta = Reinforce().init(None)
        differentiated = jax.value_and_grad(lambda theta: expected_loss(problem, theta, histories))
        return jax.tree.map(np.asarray, jax.jit(differentiated)(theta))


def moments(objective, samples, updates, segment=None, gain=surrogate):
    """`(mean, variance)` of backprop's gradient over all histories."""
    with jax.enable_x64(True):
        problem, histories = bandit(objective, samples, updates, segment, gain)
        theta = Reinforce().init(None)
        compute = jax.jit(lambda theta: expectation(problem, theta, backprop(theta), histories))
        return jax.tree.map(np.asarray, compute(theta))


# n, T: J, dJ/d eta, dJ/d birth; bias of d eta: plain, DiCE, DiCE corrected; variances: corrected, and of these three.
PUBLISHED = {
    (2, 1): ((0.5225033751, 0.1541062200, (0.20254556, -0.03217715, -0.17036841)), None, None),
    (2, 2): (
        (0.6394600251, 0.1876142933, (0.19201532, -0.08664734, -0.10536798)),
        (-0.0180, -0.0033, 0.0147),
        (0.0205, 0.0066, 0.0098, 0.0271),
    ),
    (2, 3): (
        (0.7126654763, 0.1664306256, None),
        (-0.0242, -0.0048, 0.0222),
        (0.0346, 0.0050, 0.0094, 0.0468),
    ),
    (1, 4): ((0.7350705139, 0.0857345879, None), (0.0115, 0.0089, 0.0010), None),
}


def corrected(value):
    """With the baseline of the reference, which knows the answer."""
    return SamplingCorrected(ExactReturn(), expected=-value, rate=0.0)


@pytest.mark.parametrize(("samples", "updates"), PUBLISHED)
def test_the_enumerated_bandit(samples, updates):
    (value, eta, birth), _, variances = PUBLISHED[samples, updates]
    loss, gradient = truth(samples, updates)
    # The enumeration itself against published numbers ...
    assert -loss == pytest.approx(value, abs=1e-10)
    assert -gradient["eta"] == pytest.approx(eta, abs=1e-10)
    if birth:
        np.testing.assert_allclose(-gradient["birth"], birth, atol=1e-8)
    # ... and the corrected gradient against the enumeration.
    mean, variance = moments(corrected(value), samples, updates)
    for name in gradient:
        np.testing.assert_allclose(mean[name], gradient[name], atol=1e-12)
    if variances:
        assert variance["eta"] == pytest.approx(variances[0], abs=5.1e-5)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["plain", "DiCE", "DiCE corrected"])
@pytest.mark.parametrize(("samples", "updates"), [(2, 2), (1, 4), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_the_other_combinations_are_biased_by_what_is_known(samples, updates, which):
    (value, *_), biases, variances = PUBLISHED[samples, updates]
    objective = corrected(value) if which == 2 else ExactReturn()
    mean, variance = moments(objective, samples, updates, gain=dice if which else surrogate)
    # In the sign of J.
    assert truth(samples, updates)[1]["eta"] - mean["eta"] == pytest.approx(biases[which], abs=5.1e-5)
    if variances:
        assert variance["eta"] == pytest.approx(variances[1 + which], abs=5.1e-5)


@pytest.mark.parametrize(
    "objective",
    [
        SamplingCorrected(Telescoped(ExactReturn()), expected=0.3, rate=0.7),
        Telescoped(SamplingCorrected(ExactReturn(), expected=0.3, rate=0.7)),
    ],
    ids=["corrected differences", "differences of corrected"],
)
def test_a_terminal_objective_is_corrected_segment_by_segment(objective):
    mean, _ = moments(objective, 1, 4, segment=1)
    _, gradient = truth(1, 4)
    for name in gradient:
        np.testing.assert_allclose(mean[name], gradient[name], atol=1e-12)


def test_the_running_baseline_takes_away_variance():
    plain, running = (moments(SamplingCorrected(ExactReturn(), rate=rate), 1, 4, segment=1) for rate in (0.0, 0.5))
    for name in plain[0]:
        np.testing.assert_allclose(plain[0][name], running[0][name], atol=1e-12)
        assert np.all(running[1][name] < 0.85 * plain[1][name])


# Real rules, networks and objectives: two arms, one pull per update.


RATED = Rated()
CLIPPED = Rated(Drift(coefficients=Coefficients(discount=0.0, trace=0.0), optimizer=Sgd(), epochs=1, minibatches=1))
LEARNED = LPG(predictions=2, hidden=2, learning_rate=2.0, optimizer=Sgd())
REACTIVE, MEMORY = Network(MLP((2,))), Network(MLP((2,)), memory=GRU(2), separate=False)


def real(objective, rule=RATED, network=REACTIVE, updates=3, segment=1, validation=0, steps=1):
    def problem(table, instead):
        lifetime = Lifetime(Bandit((1.0, -0.5), table), rule, Written(network), 1, steps, updates)
        return MetaProblem(lifetime, instead or objective, segment)

    return problem, tables(2, steps * updates + validation)


def grown(rule, seed=1):
    theta = jitter(double(jax.jit(rule.init)(jax.random.key(0))), jax.random.key(seed), 0.5)
    return theta if isinstance(rule, Rated) else jax.tree.map(lambda x: 2 * x, theta)


def along(direction, gradient):
    return float(sum(jax.tree.leaves(jax.tree.map(lambda d, g: jnp.sum(d * g), direction, gradient))))


def finite_difference(base, rule, direction, **sizes):
    """Of the expected return, along `direction`."""
    problem, histories = real(base, rule, **sizes)

    @jax.jit
    def moved(distance):
        theta = jax.tree.map(lambda x, d: x + distance * d, grown(rule), direction)
        return expected_loss(problem, theta, histories, "validation" in sizes)

    return float(moved(1e-5) - moved(-1e-5)) / 2e-5


def mean_gradient(objective, rule, **sizes):
    problem, histories = real(objective, rule, **sizes)
    compute = jax.jit(lambda theta: expectation(problem, theta, backprop(theta), histories, "validation" in sizes)[0])
    return compute(grown(rule))


CASES = {
    "actor-critic": (RATED, {}),
    # Its ratios hold the probabilities that acted, which move with theta as well: seen after two updates.
    "PPO": (CLIPPED, {"updates": 3, "steps": 2}),
    "LPG": (LEARNED, {}),
    "LPG with memory": (LEARNED, {"network": MEMORY}),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case.startswith("LPG") else []) for case in CASES]
)
def test_the_gradient_of_a_real_lifetime_is_the_finite_difference_of_its_expected_return(case):
    rule, sizes = CASES[case]
    with jax.enable_x64(True):
        direction = grown(rule, 2)
        difference = finite_difference(LifetimeReturn(), rule, direction, **sizes)
        found = along(direction, mean_gradient(SamplingCorrected(LifetimeReturn()), rule, **sizes))
    assert abs(difference) > 1e-4  # and the derivative of the return at given data is 0
    assert found == pytest.approx(difference, rel=1e-7)


def test_of_a_validation_return_the_correction_is_what_is_missing():
    base = ValidationReturn(OuterCritic(Written(REACTIVE), discount=0.0), scale=2.0)
    sizes = {"updates": 2, "segment": 2, "validation": 1}
    with jax.enable_x64(True):
        direction = grown(RATED, 2)
        difference = finite_difference(base, RATED, direction, **sizes)
        corrected, plain = (
            along(direction, mean_gradient(objective, RATED, **sizes)) for objective in (SamplingCorrected(base), base)
        )
        assert corrected == pytest.approx(difference, rel=1e-7)
        assert abs(plain - difference) > 0.05 * abs(difference)


def test_agents_that_sample_agree():
    """The bandit again, with actions drawn as usual: 4 standard errors, which tell the plain gradient's bias."""
    gradient = truth(2, 2)[1]["eta"]
    with jax.enable_x64(True):
        theta = Reinforce().init(None)
        lifetime = Lifetime(Bandit(PAY), Reinforce(), Written(Logits(START), samples=True), 1, 2, 2)

        @jax.jit
        def sampled(key):
            problem = MetaProblem(lifetime, corrected(PUBLISHED[2, 2][0][0]), 2)
            return jax.vmap(lambda key: backprop(theta, key)(problem)["eta"])(jax.random.split(key, 20_000))

        found = np.asarray(sampled(KEY))
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - gradient) < 4 * error < 0.5 * 0.018


def test_what_is_carried_is_zero_but_for_its_derivative():
    problem, _ = real(SamplingCorrected(LifetimeReturn(), expected=2.0, rate=0.5))
    problem = problem(np.array([0, 1, 0], np.int32), None)
    theta = grown(RATED)
    life, segment = jax.jit(problem.advance)(theta, jax.jit(problem.start)(theta, KEY), KEY)
    state = life.objective
    assert (state.score, state.offset) == (0.0, 0.0)
    assert state.expected == 2.0 + 0.5 * (segment.loss - 2.0)


def test_surrogates_are_refused():
    for base in (PolicyGradientSurrogate(), Bootstrapped(), Telescoped(PolicyGradientSurrogate())):
        with pytest.raises(ValueError, match="nearest objectives that can be corrected: ValidationReturn"):
            SamplingCorrected(base)
    with pytest.raises(ValueError, match=r"rate=1\.5 is not in \[0, 1\]"):
        SamplingCorrected(LifetimeReturn(), rate=1.5)
    with pytest.raises(ValueError, match="scale=0 must be positive"):
        ValidationReturn(scale=0)
    assert isinstance(SamplingCorrected(LifetimeReturn()), MetaObjective)
