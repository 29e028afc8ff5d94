"""Where the variance of an estimate comes from: the perturbation, the inner training run, or the task."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.diagnostics.samples import period, repeated
from truncation.diagnostics.settings import changed, found
from truncation.diagnostics.statistics import Measured, mean_of
from truncation.problem import GradientEstimator, InnerProblem, Life, Segment, Theta


@dataclass(frozen=True)
class Pinned:
    """The inner problem with given randomness: whoever leads a life through it meets the same task and inner noise.

    What `start` draws comes from `task`, what `advance` draws at age t from fold_in(inner, t); the keys that an
    estimator hands over are ignored.
    """

    problem: InnerProblem
    task: PRNGKeyArray
    inner: PRNGKeyArray

    def start(self, theta: Theta, key: PRNGKeyArray) -> Life:
        return self.problem.start(theta, self.task), jnp.int32(0)

    def advance(self, theta: Theta, life: Life, key: PRNGKeyArray) -> tuple[Life, Segment]:
        inside, age = life
        inside, report = self.problem.advance(theta, inside, jax.random.fold_in(self.inner, age))
        return (inside, age + 1), report


class Attribution(NamedTuple):
    """tr Var of the estimate of one life (one antithetic pair) over one whole lifetime, in three parts that add up.

    Attributes:
      perturbation: E Var(ĝ | task, inner): what the estimator itself draws.
      inner: E Var(E(ĝ | task, inner) | task): what `advance` draws.
      task: Var E(ĝ | task): what `start` draws; the initial state of a life belongs to it.
    """

    perturbation: Measured
    inner: Measured
    task: Measured


def attribution(
    estimator: GradientEstimator,
    problem: InnerProblem,
    theta: Theta,
    key: PRNGKeyArray,
    tasks: int = 16,
    inner: int = 4,
    perturbations: int = 4,
    batch: int = 0,
) -> Attribution | None:
    """Splits the variance by the law of total variance, with nested keys (a nested analysis of variance).

    Every task key has `inner` inner keys of its own, each of these `perturbations` keys of the estimator. A sample is
    the mean of one lifetime's estimates in lock-step, of the smallest cohort the estimator allows: one life or pair.
    The parts are unbiased, so that a part that is nought may come out negative; intervals are over tasks.

    None for estimators that need more lives than that (control variates, learned weights): theirs depend on each other.

    Cost: tasks * inner * perturbations times that of a lifetime.
    """
    smallest = _smallest(estimator)
    if smallest is None:
        return None

    def one(key: PRNGKeyArray) -> Float[Array, "inner perturbations size"]:
        def given(inner_key: PRNGKeyArray) -> Float[Array, "perturbations size"]:
            pinned = Pinned(problem, jax.random.fold_in(key, 0), jax.random.fold_in(inner_key, 0))
            return jax.vmap(lambda k: _lifetime(smallest, pinned, theta, k))(_children(inner_key, perturbations))

        return jax.vmap(given)(_children(key, inner))

    keys = _children(key, tasks)
    samples = repeated(one, keys, max(batch // (inner * perturbations), 1) if batch else 0)
    return attributed(samples)


def attributed(samples: Float[np.ndarray, "tasks inner perturbations size"]) -> Attribution:
    """The three parts from nested samples."""
    tasks, inner, perturbations, _ = samples.shape
    within = samples.var(axis=2, ddof=1).sum(axis=-1).mean(axis=1)  # per task
    means = samples.mean(axis=2)
    between_inner = means.var(axis=1, ddof=1).sum(axis=-1)
    by_task = means.mean(axis=1)
    # Per task, so that their mean is the variance over tasks: n / (n - 1) ‖x_i - x̄‖².
    between_tasks = np.sum((by_task - by_task.mean(axis=0)) ** 2, axis=-1) * tasks / (tasks - 1)
    return Attribution(
        mean_of(within), mean_of(between_inner - within / perturbations), mean_of(between_tasks - between_inner / inner)
    )


def _smallest(estimator: GradientEstimator) -> GradientEstimator | None:
    for lives in (1, 2):
        try:
            smallest = changed(estimator, lives=lives, microbatch=0, stagger=False)
        except ValueError:
            continue
        # Two lives that are no pair would share what is pinned, and count as one.
        return smallest if lives == 1 or found(estimator, "std") is not None else None
    return None


def _lifetime(estimator: GradientEstimator, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Array:
    """Mean of the estimates of one lifetime (of as many as the windows need to come out even)."""

    def step(state: Any, number: Array) -> tuple[Any, Array]:
        estimate, state = estimator.estimate(problem, theta, state, jax.random.fold_in(key, number))
        return state, ravel_pytree(estimate.gradient)[0]

    state = estimator.init(problem, theta, jax.random.fold_in(key, 2**31 - 1))
    return jnp.mean(jax.lax.scan(step, state, jnp.arange(period(estimator), dtype=jnp.int32))[1], axis=0)


def _children(key: PRNGKeyArray, count: int) -> PRNGKeyArray:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(1, count + 1, dtype=jnp.int32))
