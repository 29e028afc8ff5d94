"""Forward mode: sensitivities travel with the life, so that nothing older than the window is lost.

With s' = f(s, θ) over one window, A = df/ds and B = df/dθ, the influence J = ds/dθ follows J' = A J + B, and the window
contributes dL/ds J + dL/dθ. What differs is how much of J is kept: all of it, a random rank one, or one direction.
A birth replaces the life and with it all that it carries, also inside a window.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from truncation.cohort import Cohort, masked
from truncation.lives import Tally, all_finite, life_key
from truncation.problem import Estimate, InnerProblem, Life, Segment, Theta
from truncation.schedule import Lived, Schedule

Smooth = list  # the leaves of a life that can be differentiated


class Sensitive(NamedTuple):
    """A life between windows, with what it carries of ds/dθ.

    Attributes:
      lived: the life.
      tangent: along its differentiable leaves.
      memory: whatever else the estimator needs to know.
    """

    lived: Lived
    tangent: Smooth
    memory: Any


class Carries(NamedTuple):
    """What an estimator of forward mode does with one life.

    Attributes:
      begin: `(theta, key, lived) -> Sensitive` of a life that has not lived.
      window: `(theta, key, state) -> (state, gradient, reports)`; a state of None is a lifetime from the start.
    """

    begin: Callable[[Theta, PRNGKeyArray, Lived], Sensitive]
    window: Callable[[Theta, PRNGKeyArray, Sensitive | None], tuple[Any, Theta, Segment]]


@dataclass(frozen=True)
class Forward:
    """The settings of all estimators of forward mode, and what they share.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      lives: how many live side by side.
      stagger: spread their ages over the horizon by real burn-in (else lock-step).
      microbatch: how many lives run at once (0: all).
    """

    horizon: int
    window: int
    lives: int
    stagger: bool = True
    microbatch: int = 0

    def __post_init__(self):
        self._cohort()

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.horizon, self.window, self.stagger)

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Sensitive | None:
        """Lives of the scheduled ages with their sensitivities; None if every window is a whole lifetime."""
        carries = self._carries(problem)
        return self._cohort().aged(problem, theta, key, carries.begin, lambda *state: carries.window(*state)[0])

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Sensitive | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Sensitive | None]:
        """Leads every life through one window."""

        def one(theta: Theta, key: PRNGKeyArray, state: Sensitive | None, index: Int[Array, ""]) -> tuple[Any, Any]:
            after, gradient, reports = self._carries(problem).window(theta, life_key(key, index), state)
            finite = all_finite(reports.loss) & all_finite(gradient)
            return after, (masked(finite, gradient), Tally.of(reports, finite))

        state, (total, tally) = self._cohort().each(one, (theta, key), state)
        return self._cohort().mean(total, tally), state

    def _carries(self, problem: InnerProblem) -> Carries:
        raise NotImplementedError

    def _cohort(self) -> Cohort:
        return Cohort(self.schedule, self.lives, self.microbatch)

    def _after(
        self, before: Sensitive | None, life: Life, tangent: Smooth, memory: Any, losses: Array
    ) -> Sensitive | None:
        """What is carried on; a dead life is due, and carries no number that could spread."""
        if before is None:
            return None
        finite = all_finite((losses, tangent, smooth_leaves(life)[0]))
        numbers = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.inexact), memory)
        memory = jax.tree.map(lambda x, number: masked(finite, x) if number else x, memory, numbers)
        return Sensitive(self._cohort().left(before.lived, life, finite), masked(finite, tangent), memory)


def unrolled(
    schedule: Schedule, problem: InnerProblem, state: Sensitive | None, key: PRNGKeyArray
) -> tuple[Callable[[tuple[Theta, Theta], Smooth], Any], Smooth]:
    """A window as a map of theta and of the differentiable leaves of the life; and these leaves."""
    lived = state.lived if state else None
    start, join = smooth_leaves(lived.life if lived else ())

    def inner(thetas: tuple[Theta, Theta], start: Smooth) -> Any:
        entered = lived and Lived(join(start), lived.age)
        life, reports = schedule.live(problem, thetas, entered, key)
        return (smooth_leaves(life)[0], reports.loss), (life, reports)

    return inner, start


def smooth_leaves(life: Life) -> tuple[Smooth, Callable[[Smooth], Life]]:
    """The leaves of a life that can be differentiated, and how the life is put together from others."""
    leaves, structure = jax.tree.flatten(life)
    where = [number for number, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def join(smooth: Smooth) -> Life:
        replaced = dict(zip(where, smooth, strict=True))
        return structure.unflatten([replaced.get(number, leaf) for number, leaf in enumerate(leaves)])

    return [leaves[number] for number in where], join


def zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)
