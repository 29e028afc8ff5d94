"""Horizons, windows and rebirth: how one life is led through one window, and how the ages of many are spread."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from truncation.lives import select, strong
from truncation.problem import InnerProblem, Life, Segment, Theta


class Lived(NamedTuple):
    """A life between two windows.

    Attributes:
      life: the state of the inner training run.
      age: how many segments it has lived. At `horizon` it is due: the next segment begins with a new life.
    """

    life: Life
    age: Int[Array, ""]


@dataclass(frozen=True)
class Schedule:
    """Where lifetimes are cut.

    A life ends only between segments, lazily: its successor is born at the head of the next segment, with the `theta`
    of that moment. `window` need not divide `horizon`. Since `window <= horizon`, at most one birth falls into a
    window; so one newborn is started at its head and put in place where it is due. If `window` divides `horizon`,
    births can only be due at the head (a static fact), and the segments are free of any check.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      stagger: spread the ages of lives evenly over the horizon, in multiples of the window; else all are in lock-step.
      remat: keep only about sqrt(window) lives for the backward pass, and recompute the others (two levels of
        `jax.checkpoint`: three forward passes instead of one).
    """

    horizon: int
    window: int
    stagger: bool = False
    remat: bool = False

    def __post_init__(self):
        if self.horizon < 1:
            raise ValueError(f"horizon={self.horizon}: a lifetime has at least 1 segment")
        if not 1 <= self.window <= self.horizon:
            raise ValueError(f"window={self.window} is not in [1, horizon] = [1, {self.horizon}]")

    @property
    def whole(self) -> bool:
        """Every window is a whole lifetime, so nothing lives on from one to the next."""
        return self.window == self.horizon

    @property
    def aligned(self) -> bool:
        """Births fall on heads of windows only."""
        return self.horizon % self.window == 0

    def slots(self, lives: int) -> list[int]:
        """How many windows each life is ahead of a newborn."""
        slots = -(-self.horizon // self.window) if self.stagger else 1
        return [life * slots // lives for life in range(lives)]

    def burn_in(self, lives: int) -> tuple[int, Int[Array, " lives"]]:
        """How many windows to live before the first estimate, and the ages to do it with.

        An offset counter on a fresh state would be a lie; so lives are aged by living. Each is given the age that makes
        it due when it has as many windows ahead of it as it shall be old: no life needs a mask.
        """
        slots = self.slots(lives)
        windows = max(slots)
        ages = [self.horizon - (windows - slot) * self.window for slot in slots]
        return windows, jnp.array(ages, jnp.int32)

    def newborn(self, age: Int[Array, ""]) -> Bool[Array, " window"]:
        """Which segments of the window belong to the life that is born in it."""
        return jnp.arange(self.window, dtype=jnp.int32) >= self._left(age)

    def reborn(self, age: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether a life is born in the window."""
        return self._left(age) < self.window

    def shares(self, age: Int[Array, ""] | None) -> Float[Array, " parts"]:
        """Which fraction of the window each of its parts is: of the old and the new lifetime, if they can differ."""
        if age is None or self.aligned:
            return jnp.ones(1)
        new = jnp.mean(self.newborn(age), dtype=jnp.float32)
        return jnp.stack([1 - new, new])

    def age_after(self, age: Int[Array, ""]) -> Int[Array, ""]:
        """The age after the window, in 1..horizon."""
        return jnp.where(self.reborn(age), self.window - self._left(age), age + self.window)

    def live(
        self,
        problem: InnerProblem,
        thetas: tuple[Theta, Theta],
        lived: Lived | None,
        key: PRNGKeyArray,
        crossing: Callable[[Life, Int[Array, ""]], Life] | None = None,
    ) -> tuple[Life, Segment]:
        """One life through one window: its state at the end, and the reports of the segments, stacked.

        Args:
          problem: the inner problem.
          thetas: for the segments of the life that enters the window, and for those of a life born in it; the same
            object twice where they do not differ.
          lived: the life that enters, None if it is born at the head (`whole`).
          key: of this life in this window. Segment `s` uses `fold_in(key, s)`, the birth `fold_in(key, window)`.
          crossing: what happens to a life, or to its adjoint, as it enters segment `s` from the one before.
        """
        old, new = thetas
        newborn = strong(problem.start(new, jax.random.fold_in(key, self.window)))
        if lived is None:
            life, theta_of, left = newborn, lambda _: new, None
        elif self.aligned:
            due = self._left(lived.age) == 0
            theta = old if old is new else select(due, new, old)
            life, theta_of, left = select(due, newborn, lived.life), lambda _: theta, None
        else:
            life, left = lived.life, self._left(lived.age)
            theta_of = (lambda _: new) if old is new else (lambda s: select(s >= left, new, old))

        def segment(life: Life, s: Int[Array, ""]) -> tuple[Life, Segment]:
            if crossing is not None:
                life = crossing(life, s)
            if left is not None:
                life = select(s == left, newborn, life)
            life, report = problem.advance(theta_of(s), life, jax.random.fold_in(key, s))
            return strong(life), report

        if self.remat:
            return checkpointed_scan(segment, life, self.window)
        return jax.lax.scan(segment, life, jnp.arange(self.window, dtype=jnp.int32))

    def _left(self, age: Int[Array, ""]) -> Int[Array, ""]:
        return self.horizon - age


def checkpointed_scan(body: Callable, carry: PyTree, length: int) -> tuple[Any, Any]:
    """`scan(body, carry, arange(length))` whose backward pass keeps about 2 sqrt(length) carries and one body.

    Chen et al. 2016 ("Training deep nets with sublinear memory cost"), on two levels: a chunk is recomputed from its
    head, and each step of the chunk from its own. Costs two more forward passes.
    """
    chunk = math.isqrt(length - 1) + 1
    chunks = -(-length // chunk)

    def step(carry: PyTree, s: Int[Array, ""]) -> tuple[PyTree, PyTree]:
        if length == chunks * chunk:
            return body(carry, s)
        # The last chunk sticks out. `s` is the same for all lives, so that this stays a branch and costs nothing.
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(body, carry, s)[1])
        return jax.lax.cond(s < length, body, lambda carry, _: (carry, nothing), carry, s)

    def one_chunk(carry: PyTree, head: Int[Array, ""]) -> tuple[PyTree, PyTree]:
        steps = head + jnp.arange(chunk, dtype=jnp.int32)
        return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), carry, steps)

    heads = chunk * jnp.arange(chunks, dtype=jnp.int32)
    carry, reports = jax.lax.scan(jax.checkpoint(one_chunk, prevent_cse=False), carry, heads)
    return carry, jax.tree.map(lambda x: x.reshape(chunks * chunk, *x.shape[2:])[:length], reports)
