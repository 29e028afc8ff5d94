"""Many lives between windows: how they are aged before the first estimate, and what becomes of them after a window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from truncation.lives import Tally, all_finite, check_microbatch, life_key, over_lives, strong
from truncation.problem import Estimate, InnerProblem, Life, Theta
from truncation.schedule import Lived, Schedule


@dataclass(frozen=True)
class Cohort:
    """The lives that an estimator leads side by side; what the estimators that differentiate delegate to.

    Attributes:
      schedule: where lifetimes are cut.
      lives: how many there are.
      microbatch: how many run at once (0: all).
    """

    schedule: Schedule
    lives: int
    microbatch: int

    def __post_init__(self):
        if self.lives < 1:
            raise ValueError(f"lives={self.lives}: at least 1 is needed")
        check_microbatch(self.lives, self.microbatch)

    def each(self, function: Callable, shared: tuple[PyTree, ...], *states: PyTree) -> tuple[Any, Any]:
        """`over_lives` of `function(*shared, *state, index)`."""
        return over_lives(function, shared, *states, self._indices(), microbatch=self.microbatch)

    def aged(
        self,
        problem: InnerProblem,
        theta: Theta,
        key: PRNGKeyArray,
        begin: Callable[[Theta, PRNGKeyArray, Lived], PyTree] = lambda theta, key, lived: lived,
        window: Callable[[Theta, PRNGKeyArray, PyTree], PyTree] | None = None,
    ) -> Any:
        """What is carried of lives of the scheduled ages, aged by living; None if every window is a whole lifetime.

        Args:
          problem: the inner problem.
          theta: meta-parameters that they live with.
          key: of this burn-in. Costs up to a horizon of segments per life.
          begin: what is carried of a life that has not lived, under the key of that life.
          window: leads it through one window, under the key of that life; plain living if None.
        """
        if self.schedule.whole:
            return None
        windows, ages = self.schedule.burn_in(self.lives)
        window = window or (lambda theta, key, lived: self.lived(problem, theta, key, lived))

        def unborn(theta: Theta, key: PRNGKeyArray, age: Int[Array, ""], index: Int[Array, ""]) -> tuple[Any, tuple]:
            key = life_key(key, index)
            return begin(theta, key, Lived(strong(problem.start(theta, key)), age)), ()

        def one(theta: Theta, key: PRNGKeyArray, state: PyTree, index: Int[Array, ""]) -> tuple[Any, tuple]:
            return window(theta, life_key(key, index), state), ()

        def turn(states: PyTree, number: Int[Array, ""]) -> tuple[PyTree, None]:
            return self.each(one, (theta, jax.random.fold_in(key, number)), states)[0], None

        states, _ = self.each(unborn, (theta, jax.random.fold_in(key, windows)), ages)
        if windows:
            states, _ = jax.lax.scan(turn, states, jnp.arange(windows, dtype=jnp.int32))
        return states

    def lived(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray, lived: Lived) -> Lived:
        """One window of plain living."""
        life, reports = self.schedule.live(problem, (theta, theta), lived, key)
        return self.left(lived, life, all_finite(reports.loss))

    def after(self, lived: Lived | None, life: Life, finite: Bool[Array, ""]) -> Lived | None:
        """What is carried of a life that has left the window: nothing if it ended there."""
        return None if lived is None else self.left(lived, life, finite)

    def left(self, lived: Lived, life: Life, finite: Bool[Array, ""]) -> Lived:
        """The life as it leaves the window; a dead one is due."""
        return Lived(life, jnp.where(finite, self.schedule.age_after(lived.age), self.schedule.horizon))

    def mean(self, total: Theta, tally: Tally) -> Estimate:
        """The estimate from a gradient that was added up over finite lives."""
        gradient = jax.tree.map(lambda g: (g / jnp.maximum(tally.finite, 1)).astype(g.dtype), total)
        return Estimate(gradient, *tally.mean(self.lives))

    def _indices(self) -> Int[Array, " lives"]:
        return jnp.arange(self.lives, dtype=jnp.int32)


def masked(finite: Bool[Array, ""], tree: PyTree) -> Any:
    """`tree` of a finite life, else zeros."""
    return jax.tree.map(lambda x: jnp.where(finite, x, 0), tree)
