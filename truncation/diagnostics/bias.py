"""Where the bias of an estimator comes from: toggles that each remove one cause, and the bias that goes with it.

Switching causes off one after another makes a chain of expectations, from the estimator as it is to the truth:

    E ĝ(σ, window) → E ĝ(σ/10, window) → pathwise gradient → gradient of E L → gradient of the ideal loss
            smoothing          truncation            sampling            bootstrap

and, beside it, hysteresis: E ĝ with theta on its way, less E ĝ with theta at rest. A part is the difference of two
neighbours: the vectors add up to the bias, their squared lengths need not.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from truncation.diagnostics.samples import Sampled, keys_of, period, repeated, sampled
from truncation.diagnostics.settings import changed, found
from truncation.diagnostics.statistics import Measured, Samples, product, squared_norm
from truncation.diagnostics.truth import Truth
from truncation.problem import GradientEstimator, InnerProblem, Theta

SMALLER = 10.0  # σ is divided by this to remove smoothing: 99 % of what is of order σ²


@dataclass(frozen=True)
class Case:
    """What is asked about an estimator: an inner problem at one theta, and what the answer should be.

    Attributes:
      problem: the inner problem.
      theta: meta-parameters.
      truth: of the gradient of E L.
      pathwise: truth of E of the derivative along the paths of lives, where that is another one: where what is sampled
        in a life depends on theta. None where it does not, or where there is no such derivative.
      ideal: the problem without bootstrapping, whose loss is really meant, and its truth; None if `problem` is that.
      smoothed: the truth is that of the smoothed loss; so smoothing is no bias, and is not measured.
    """

    problem: InnerProblem
    theta: Theta
    truth: Truth
    pathwise: Truth | None = None
    ideal: tuple[InnerProblem, Truth] | None = None
    smoothed: bool = False


class Bias(NamedTuple):
    """‖bias‖² and its parts; None where a part does not apply to the estimator or was not asked for.

    Attributes:
      total: of E ĝ with theta at rest, against the gradient that is really meant.
      smoothing, truncation, sampling, bootstrap: see the module.
      hysteresis: of theta moving under lives that are under way, in addition to `total`.
    """

    total: Measured
    smoothing: Measured | None
    truncation: Measured | None
    sampling: Measured | None
    bootstrap: Measured | None
    hysteresis: Measured | None


class Answers(NamedTuple):
    """Samples of both, on the same keys."""

    estimates: Sampled
    truths: Samples

    @property
    def square(self) -> float:
        """‖∇L‖², unbiased."""
        return product(self.truths, self.truths)


def truths(truth: Truth, problem: InnerProblem, theta: Theta, keys: PRNGKeyArray, batch: int = 0) -> Samples:
    """A sample of the truth for every key."""
    return repeated(lambda key: ravel_pytree(truth(problem, theta, key))[0], keys, batch)


def answers(estimator: GradientEstimator, case: Case, key: PRNGKeyArray, repeats: int, batch: int = 0) -> Answers:
    """Samples of what the estimator says, and of the gradient that is really meant."""
    keys = keys_of(key, repeats)
    problem, truth = case.ideal or (case.problem, case.truth)
    return Answers(
        sampled(estimator, case.problem, case.theta, keys, batch), truths(truth, problem, case.theta, keys, batch)
    )


def bias(
    estimator: GradientEstimator,
    case: Case,
    key: PRNGKeyArray,
    said: Answers,
    velocity: Theta | None = None,
    batch: int = 0,
) -> Bias:
    """Splits the bias of an estimator into its parts.

    Toggles, each with the same keys on both sides, so that only what the toggle changes makes a difference:

    - smoothing: std is divided by 10. Not for estimators without a std, nor against a smoothed truth.
    - truncation: what is left after that, against whole lifetimes. Not for estimators without a window.
    - sampling: derivatives along the paths against the gradient of the expectation. Only for estimators without a std:
      perturbing theta moves the distribution of what is sampled as well.
    - bootstrap: the gradient of the problem's loss against that of the loss that is meant (`Case.ideal`).
    - hysteresis: theta walks through a lifetime of estimates to where it is, instead of having stayed there. Not for
      estimators that carry no lives.

    Args:
      estimator: with the settings that are asked about.
      case: the problem, theta and the truth.
      key: as for `answers`.
      said: what `answers` returned.
      velocity: change of theta per estimate; None: hysteresis is not measured.
      batch: repetitions that run at once (0: all).
    """
    keys = keys_of(key, len(said.truths))
    std, window = found(estimator, "std"), found(estimator, "window")
    pathwise = case.pathwise if std is None and case.pathwise is not None else case.truth
    paths = gradients = said.truths
    if case.ideal is not None:
        paths = gradients = truths(case.truth, case.problem, case.theta, keys, batch)
    if pathwise is not case.truth:
        paths = truths(pathwise, case.problem, case.theta, keys, batch)
    plain = said.estimates.means
    smooths = std is not None and not case.smoothed
    if std is not None and smooths:
        plain = sampled(changed(estimator, std=std / SMALLER), case.problem, case.theta, keys, batch).means
    moves = velocity is not None and window is not None and window < found(estimator, "horizon")
    return Bias(
        total=squared_norm(said.estimates.means - said.truths),
        smoothing=squared_norm(said.estimates.means - plain) if smooths else None,
        truncation=squared_norm(plain - paths) if window is not None else None,
        sampling=squared_norm(paths - gradients) if pathwise is not case.truth else None,
        bootstrap=squared_norm(gradients - said.truths) if case.ideal is not None else None,
        hysteresis=squared_norm(_hysteresis(estimator, case, keys, velocity, batch)) if moves else None,
    )


def _hysteresis(estimator: GradientEstimator, case: Case, keys: PRNGKeyArray, velocity: Theta, batch: int) -> Samples:
    """Samples of ĝ at the end of a walk, less those of ĝ after as long a rest, on the same keys.

    The walk is a straight line, as long as a lifetime at least, at whose end theta is where the case has it; so that
    the difference is one of the past alone. By how much it is longer than a lifetime is drawn: lives of every age
    are met, in lock-step too.
    """
    estimates = -(-found(estimator, "horizon") // found(estimator, "window"))

    def at(steps_to_go: Array, speed: float) -> Theta:
        return jax.tree.map(lambda t, v: t - (speed * steps_to_go * v).astype(t.dtype), case.theta, velocity)

    def one(key: PRNGKeyArray) -> Array:
        last = estimates + jax.random.randint(jax.random.fold_in(key, 2**31 - 2), (), 0, period(estimator))

        def end(speed: float) -> Array:
            def step(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
                theta = at(last - number, speed)
                estimate, state = estimator.estimate(case.problem, theta, carry[0], jax.random.fold_in(key, number))
                return state, ravel_pytree(estimate.gradient)[0]

            state = estimator.init(case.problem, at(last, speed), jax.random.fold_in(key, 2**31 - 1))
            return jax.lax.fori_loop(0, last + 1, step, (state, jnp.zeros_like(ravel_pytree(case.theta)[0])))[1]

        moving, resting = jax.lax.map(end, jnp.array([1.0, 0.0]))
        return moving - resting

    return np.asarray(repeated(one, keys, batch))
