"""The hinge between learning and estimating.

An `InnerProblem` is one inner training run, cut into segments. Estimators (this package) see nothing else, so they
know no reinforcement learning and are tested on scalars; reinforcement learning (`learned_rl`, `meta_objectives`)
knows no estimators. Everything here is written for one life: only an estimator maps over many.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Theta: TypeAlias = PyTree  # what is meta-learned
Life: TypeAlias = PyTree  # the whole state of one inner training run
Metrics: TypeAlias = dict[str, Float[Array, ""]]


class Segment(NamedTuple):
    """What a life reports after one segment (K inner updates).

    Attributes:
      loss: to be minimised. The outer objective is its mean over the segments of a lifetime. A life that has broken
        down reports a non-finite loss: it is then masked, counted and reborn.
      metrics: scalars for the record; they are averaged, never optimised.
    """

    loss: Float[Array, ""]
    metrics: Metrics


@runtime_checkable
class InnerProblem(Protocol):
    """One inner training run as two pure functions of explicit keys."""

    def start(self, theta: Theta, key: PRNGKeyArray) -> Life:
        """Begins a new life; the task of the life is drawn here."""
        ...

    def advance(self, theta: Theta, life: Life, key: PRNGKeyArray) -> tuple[Life, Segment]:
        """Lives one segment. `theta` enters only through this argument (and `start`): it is never stored in `life`."""
        ...


class Estimate(NamedTuple):
    """An estimate of the gradient of the mean segment loss, with what it cost to know.

    Attributes:
      gradient: same structure, shapes and dtypes as `theta`.
      loss: mean segment loss over the finite lives of this window.
      metrics: means of the segments' metrics over finite lives; `dead` is the fraction of lives that were masked.
    """

    gradient: Theta
    loss: Float[Array, ""]
    metrics: Metrics


@runtime_checkable
class GradientEstimator(Protocol):
    """Settings (a frozen dataclass) with two pure methods; the state is an explicit pytree.

    `estimate` is a pure function of its arguments, so that a restored state continues bit for bit.
    """

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Any:
        """Starts the live lives (none for estimators that play whole lifetimes in one estimate)."""
        ...

    def estimate(self, problem: InnerProblem, theta: Theta, state: Any, key: PRNGKeyArray) -> tuple[Estimate, Any]:
        """Advances the lives by one window and estimates the gradient from what happened in it."""
        ...
