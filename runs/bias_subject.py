"""What `learned-rl bias` measures on: an oracle problem by name, or the inner problem of a recipe."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from runs import catalogue, oracles
from runs.experiment import Experiment
from runs.menu import ESTIMATORS, USUAL, Sizes
from truncation.diagnostics import Backprop, Case, Exact, Lifetimes, Smoothed, Truth, changed, found
from truncation.problem import GradientEstimator, InnerProblem, Theta

TRUTH_LIVES = 128  # of the smoothed truth, in every repetition


@dataclass(frozen=True)
class Subject:
    """An inner problem, where its gradient is wanted, and what is known about it.

    Attributes:
      name: as on the command line.
      problem: the inner problem.
      make_theta: draws or returns theta.
      horizon, window, std, steps: usual settings; inner steps in a segment.
      usual: names of the estimators that are compared if none is asked for.
      rate: how far theta moves in a step, see `velocity`.
      truth: what serves all estimators; None: whole lifetimes on the keys of each of them.
      pathwise: derivatives along the paths are the truth of another gradient: what is sampled depends on theta.
      smoothed: the truth is that of the smoothed loss.
      differentiable: derivatives of whole lifetimes mean something.
      own: the recipe's estimator.
      adaptive: the optimizer makes steps of the size `rate` in every coordinate (Adam).
      exact: in double precision.
      batch: repetitions that run at once (0: all).
      microbatch: lives that run at once (0: all).
      theta: once born.
    """

    name: str
    problem: InnerProblem
    make_theta: Callable[[], Theta]
    horizon: int
    window: int
    std: float
    usual: tuple[str, ...] = USUAL
    steps: int = 1
    rate: float = 0.0
    truth: Truth | None = None
    pathwise: bool = False
    smoothed: bool = False
    differentiable: bool = True
    own: GradientEstimator | None = None
    adaptive: bool = False
    exact: bool = True
    batch: int = 0
    microbatch: int = 0
    theta: Theta = None

    def born(self) -> "Subject":
        """With theta, in the precision that is in force now."""
        return replace(self, theta=self.make_theta())

    def estimator(self, name: str, sizes: Sizes) -> GradientEstimator:
        """An estimator of these sizes: with the recipe's own settings if it is that, else with sensible ones.

        Raises:
          ValueError: the sizes contradict each other.
        """
        if self.own is None or type(self.own).__name__ != name:
            return ESTIMATORS[name].make(sizes)
        return changed(self.own, window=sizes.window, lives=sizes.lives, std=sizes.std, microbatch=sizes.microbatch)

    def case(self, estimator: GradientEstimator) -> Case:
        """The question that is asked about this estimator."""
        matched = Backprop(Lifetimes.of(estimator))
        return Case(
            self.problem,
            self.theta,
            self.truth or matched,
            pathwise=matched if self.pathwise else None,
            smoothed=self.smoothed,
        )

    def velocity(self, gradient: Float[np.ndarray, " size"]) -> Float[np.ndarray, " size"]:
        """By how much theta moves per estimate."""
        if not self.adaptive:
            return -self.rate * gradient
        return -self.rate * gradient / max(float(np.sqrt(np.mean(gradient**2))), 1e-30)


def subject(name: str, seed: int) -> Subject:
    """By the name of an oracle problem, or else of a recipe."""
    if name in catalogue.problems():
        return _oracle(name)
    return _recipe(name, catalogue.recipe(name), seed)


def _oracle(name: str) -> Subject:
    make = getattr(oracles, name.replace("-", "_"))
    made: oracles.Oracle = make()
    expected = getattr(made.problem, "expected", None)
    truth: Truth
    if made.chaotic:
        truth = Smoothed(made.horizon, TRUTH_LIVES, made.std)
    elif expected is not None:
        truth = Exact(expected)
    else:  # nothing random in it
        truth = Backprop(Lifetimes(made.horizon, made.horizon, 1))
    return Subject(
        name,
        made.problem,
        lambda: make().theta,
        made.horizon,
        made.window,
        made.std,
        steps=made.steps,
        rate=made.rate,
        truth=truth,
        pathwise=made.sampling,
        smoothed=made.chaotic,
        differentiable=not made.chaotic,
    )


def _recipe(name: str, experiment: Experiment, seed: int) -> Subject:
    """The first task family of a recipe, at the theta that its training begins with."""
    outer: Any = experiment.outer
    own = getattr(outer, "estimator", None)
    std = found(own, "std") if own is not None else outer.std
    horizon = outer.horizon
    truth = None if std is None else Smoothed(horizon, TRUTH_LIVES, std, microbatch=8)
    return Subject(
        name,
        experiment.problems[0][1],
        lambda: jax.jit(experiment.rule.init)(jax.random.key(seed)),
        horizon,
        found(own, "window") or horizon,
        std or 0.1,
        usual=("FullES",) if own is None else tuple(dict.fromkeys((type(own).__name__, *(("FullES",) if std else ())))),
        steps=experiment.inner.segment,
        rate=outer.learning_rate,
        truth=truth,
        smoothed=std is not None,
        differentiable=std is None,
        own=own,
        adaptive=True,
        exact=False,
        batch=1,
    )
