"""What the gradient really is: whole lifetimes from their birth, on the random numbers that an estimator meets.

Every truth is a function `(problem, theta, key) -> gradient`, a sample whose expectation is the truth. On the same key
as an estimate it lives the same lives, so that in the difference of the two task and inner noise cancel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.cohort import masked
from truncation.diagnostics.samples import period
from truncation.diagnostics.settings import found
from truncation.evolution import FullES
from truncation.lives import all_finite, life_key, over_lives, strong
from truncation.problem import GradientEstimator, InnerProblem, Life, Theta
from truncation.schedule import checkpointed_scan


class Truth(Protocol):
    """A sample of the gradient of the mean segment loss of a lifetime."""

    def __call__(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Theta: ...


@dataclass(frozen=True)
class Lifetimes:
    """Whole lifetimes of lives in lock-step, on the keys that consecutive estimates give them.

    Segment s of estimate w of life i uses fold_in(life_key(fold_in(key, w), i), s), a birth in it the key of s = window
    (see `schedule`); a lifetime is `horizon` consecutive segments.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      units: lives, or antithetic pairs of them.
      count: lifetimes one after another: more than one where the window does not divide the horizon.
      remat: what is differentiated keeps about sqrt(horizon) lives and recomputes the others.
    """

    horizon: int
    window: int
    units: int
    count: int = 1
    remat: bool = False

    @classmethod
    def of(cls, estimator: GradientEstimator) -> "Lifetimes":
        """Those that `sampled` leads with this estimator: a pair shares the keys of one life."""
        horizon, lives = found(estimator, "horizon"), found(estimator, "lives")
        window = found(estimator, "window") or horizon
        units = lives if found(estimator, "std") is None else lives // 2
        remat = bool(found(estimator, "remat"))
        return cls(horizon, window, units, period(estimator) * window // horizon, remat)

    def loss(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray, unit: Array) -> Float[Array, ""]:
        """Mean segment loss of one life, differentiable where the problem is."""

        def key_of(segment: Array | int) -> PRNGKeyArray:
            return life_key(jax.random.fold_in(key, segment // self.window), unit)

        def lifetime(number: Array) -> Float[Array, ""]:
            birth = number * self.horizon

            def segment(life: Life, age: Array) -> tuple[Life, Array]:
                at = birth + age
                life, report = problem.advance(theta, life, jax.random.fold_in(key_of(at), at % self.window))
                return strong(life), report.loss

            life = strong(problem.start(theta, jax.random.fold_in(key_of(birth), self.window)))
            if self.remat:
                return jnp.mean(checkpointed_scan(segment, life, self.horizon)[1])
            return jnp.mean(jax.lax.scan(segment, life, jnp.arange(self.horizon, dtype=jnp.int32))[1])

        if self.count == 1:
            return lifetime(jnp.int32(0))
        return jnp.mean(jax.lax.map(lifetime, jnp.arange(self.count, dtype=jnp.int32)))


@dataclass(frozen=True)
class Backprop:
    """The exact derivative of the lifetimes: the gradient, unless what is sampled in a life depends on theta.

    The mean is over lives that stay finite, as that of estimators is; nan if none does.

    Cost: lives * horizon segments forward and backward. Memory: the residuals of all of them, or as `remat` has it.
    """

    lifetimes: Lifetimes

    def __call__(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Theta:
        def one(theta: Theta, key: PRNGKeyArray, unit: Array) -> tuple[tuple, Any]:
            loss, gradient = jax.value_and_grad(lambda theta: self.lifetimes.loss(problem, theta, key, unit))(theta)
            finite = jnp.isfinite(loss) & all_finite(gradient)
            return (), (masked(finite, gradient), finite.astype(loss.dtype))

        units = jnp.arange(self.lifetimes.units, dtype=jnp.int32)
        total, count = over_lives(one, (theta, key), units)[1]
        return jax.tree.map(lambda g: (g / count).astype(g.dtype), total)


@dataclass(frozen=True)
class Exact:
    """The derivative of an expected loss in closed form, `theta -> loss`: nothing random is left in it."""

    expected: Callable[[Theta], Float[Array, ""]]

    def __call__(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Theta:
        return jax.grad(self.expected)(theta)


@dataclass(frozen=True)
class FiniteDifferences:
    """(L(θ + h e_i) - L(θ - h e_i)) / 2h on the same random numbers, for a handful of smooth meta-parameters.

    Error of order h² and of order (precision of L) / h. Cost: 2 P lives * horizon segments forward.
    """

    lifetimes: Lifetimes
    step: float = 1e-3

    def __call__(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Theta:
        flat, unravel = ravel_pytree(theta)

        def along(direction: Array) -> Array:
            def one(flat: Array, direction: Array, key: PRNGKeyArray, unit: Array) -> tuple[tuple, Array]:
                sides = [self.lifetimes.loss(problem, unravel(flat + h * direction), key, unit) for h in steps]
                return (), (sides[0] - sides[1]) / (2 * self.step)

            steps = self.step, -self.step
            units = jnp.arange(self.lifetimes.units, dtype=jnp.int32)
            return over_lives(one, (flat, direction, key), units)[1] / len(units)

        return unravel(jax.lax.map(along, jnp.eye(flat.size, dtype=flat.dtype)))


@dataclass(frozen=True)
class Smoothed:
    """The gradient of the loss smoothed by one noise per lifetime: `FullES` with many lives.

    The only truth where losses have no derivative, or where the derivative of a chaotic life is beside the point. Only
    its expectation is shared with an estimate on the same key.
    """

    horizon: int
    lives: int
    std: float
    microbatch: int = 0

    def __call__(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Theta:
        return (
            FullES(self.horizon, self.lives, self.std, self.microbatch).estimate(problem, theta, None, key)[0].gradient
        )
