"""Independent samples of what an estimator says at one theta, and of the truth on the same random numbers."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.diagnostics.settings import changed, found
from truncation.problem import GradientEstimator, InnerProblem, Theta

_BIRTH = 2**31 - 1  # `init` draws apart from the estimates, which use 0, 1, 2, ...


class Sampled(NamedTuple):
    """Repetitions of consecutive estimates at fixed theta, all lives in lock-step from their birth.

    Attributes:
      gradients: one entry an estimate, in the order of a lifetime.
      dead: fraction of lives that were masked, per repetition.
      lives: how many there were in an estimate.
    """

    gradients: Float[np.ndarray, "repeats estimates size"]
    dead: Float[np.ndarray, " repeats"]
    lives: int

    @property
    def means(self) -> Float[np.ndarray, "repeats size"]:
        """Over whole lifetimes: what the estimator has for an expectation, over the ages of lives."""
        return self.gradients.mean(axis=1)

    @property
    def variance(self) -> Float[np.ndarray, ""]:
        """Trace of the variance of one life, at one age, mean over ages.

        1 / lives of it is the variance of one estimate from lives whose ages are spread evenly.
        """
        return self.lives * np.var(self.gradients, axis=0, ddof=1).sum(axis=-1).mean()

    @property
    def between(self) -> Float[np.ndarray, ""]:
        """Variance between ages, which lives in lock-step add to every estimate, however many they are. Unbiased."""
        repeats, ages, _ = self.gradients.shape
        if ages == 1:
            return np.zeros(())
        means = self.gradients.mean(axis=0)
        spread = np.var(means, axis=0).sum()
        # Means of few repetitions differ by noise as well; ages of one repetition share lives, hence noise.
        whole = np.var(self.means, axis=0, ddof=1).sum()
        return spread - (self.variance / self.lives - whole) / repeats


def keys_of(key: PRNGKeyArray, repeats: int) -> PRNGKeyArray:
    """One key a repetition."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(repeats, dtype=jnp.int32))


def period(estimator: GradientEstimator) -> int:
    """Estimates until lives in lock-step are as old as at first: their windows cover whole lifetimes."""
    horizon = found(estimator, "horizon")
    window = found(estimator, "window") or horizon
    return horizon // math.gcd(horizon, window)


def sampled(
    estimator: GradientEstimator, problem: InnerProblem, theta: Theta, keys: PRNGKeyArray, batch: int = 0
) -> Sampled:
    """Repeats the estimates of whole lifetimes at fixed theta.

    Lives are in lock-step: then each lifetime is seen from its birth to its end, and can be compared with a truth that
    has the same keys. The expectation over a lifetime is that of staggered lives.

    Cost: as many times the estimator's as keys and ages. Memory: `batch` times the estimator's.

    Args:
      estimator: its `stagger` is switched off.
      problem: the inner problem.
      theta: meta-parameters.
      keys: one a repetition.
      batch: repetitions that run at once (0: all).
    """
    estimator = changed(estimator, stagger=False)
    estimates = period(estimator)

    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        def step(state: Any, number: Array) -> tuple[Any, tuple[Array, Array]]:
            estimate, state = estimator.estimate(problem, theta, state, jax.random.fold_in(key, number))
            return state, (ravel_pytree(estimate.gradient)[0], estimate.metrics["dead"])

        state = estimator.init(problem, theta, jax.random.fold_in(key, _BIRTH))
        _, (gradients, dead) = jax.lax.scan(step, state, jnp.arange(estimates, dtype=jnp.int32))
        return gradients, jnp.mean(dead)

    gradients, dead = repeated(one, keys, batch)
    return Sampled(gradients, dead, found(estimator, "lives"))


def repeated(one: Callable[[PRNGKeyArray], Any], keys: PRNGKeyArray, batch: int = 0) -> Any:
    """`one` of every key, as one program, on the host and in double precision."""
    program = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=min(batch, len(keys)) or len(keys)))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), program(keys))
