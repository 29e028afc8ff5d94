"""Wiener truncation: how far to back-propagate, settled online by what past estimates say about signal and noise."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncation.cohort import Cohort, masked
from truncation.lags import Unrolled, by_lag, merged
from truncation.lives import Tally, all_finite, life_key, on_one
from truncation.problem import Estimate, InnerProblem, Theta
from truncation.schedule import Lived, Schedule
from truncation.tail import ResidualES
from truncation.weighing import LeastError, Moments, Weighing, products


class Carried(NamedTuple):
    """A life between windows, with the pair that runs beside it (() without a tail)."""

    lived: Lived
    escort: Any


class Weighed(NamedTuple):
    """What the estimator remembers.

    Attributes:
      lives: what is carried of every life, None if every window is a whole lifetime.
      moments: exponential moving sums of D̂ and V̂.
      mass: of the weights in those sums.
      weights: of the rows, for the next estimate.
    """

    lives: Carried | None
    moments: Moments
    mass: Float[Array, ""]
    weights: Float[Array, " m"]


@dataclass(frozen=True)
class WienerTruncation:
    """Back-propagation whose blocks of lags are weighted for least error, with an optional evolution-strategy tail.

    The gradient of a window is split into blocks x_l of lags 1, 1, 2, 4, 8, ... segments (`lags.merged`) and, with a
    `tail`, into what back-propagation did not see:

        ĝ = Σ_l w_l x̄_l + ρ r̄,   (w, ρ) = weigh(D̂, V̂)

    with signal and noise D̂, V̂ from U-statistics over lives, averaged over *past* estimates, so that given the past the
    weights are constants. (The Wiener filter of a truncated gradient; the family and its mean squared error are in
    `weighing`. Ours; related: Beatson & Adams 2019, Aicher et al. 2019 choose among hard windows.) With
    `weigh=unbiased` and a tail it is unbiased, at fixed theta, for the gradient of the mean segment loss (smoothed by σ
    to the order σ²), also where windows are shorter than lifetimes; without a tail, if `window == horizon` and `depth`
    is None. `LeastError` trades that bias for variance. Departure: lives of different ages are not identically
    distributed, which D̂ and V̂ take them to be; so V̂ is somewhat too large where lives are staggered.

    Cost of an estimate: lives * window segments forward and m = 2 + log2(window) times backward, with `depth`
    1 + log2(depth) times; the tail adds two lives forward per life. Memory: as `TruncatedBackprop`, with m adjoints and
    m gradients per life of a micro-batch. The weights cost a few thousand operations.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate; with a tail it must divide the horizon.
      lives: how many live side by side, at least 2.
      tail: what is measured without back-propagation; None for nothing.
      weigh: moments -> weights: `LeastError`, `Calibrated`, `BestProgress`, `unbiased`.
      memory: factor of the moving averages of D̂ and V̂.
      depth: lags that back-propagation sees, a power of two; None for all of the window.
      stagger: spread their ages over the horizon by real burn-in (else lock-step).
      remat: trade two more forward passes for memory.
      microbatch: how many lives run at once (0: all).
    """

    horizon: int
    window: int
    lives: int
    tail: ResidualES | None = None
    weigh: Weighing = LeastError()
    memory: float = 0.95
    depth: int | None = None
    stagger: bool = True
    remat: bool = False
    microbatch: int = 0

    def __post_init__(self):
        self._cohort()
        if self.lives < 2:
            raise ValueError(f"lives={self.lives}: signal and noise cannot be told apart with fewer than 2")
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory={self.memory} is not in [0, 1)")
        if self.depth is not None and (self.depth < 1 or self.depth & (self.depth - 1)):
            raise ValueError(f"depth={self.depth} is neither None nor a power of two; nearest: {_nearest(self.depth)}")
        if self.tail is not None and not self.schedule.aligned:
            legal = [w for w in range(1, self.horizon + 1) if self.horizon % w == 0]
            nearest = min(legal, key=lambda w: abs(w - self.window))
            raise ValueError(f"window={self.window}: with a tail it must divide horizon={self.horizon}; {nearest} does")

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.horizon, self.window, self.stagger, self.remat)

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Weighed:
        """Lives of the scheduled ages; all rows count in full until something is known. Costs up to a horizon."""

        def begin(theta: Theta, key: PRNGKeyArray, lived: Lived) -> Carried:
            return Carried(lived, self.tail.begin(theta, lived, key) if self.tail else ())

        def window(theta: Theta, key: PRNGKeyArray, carried: Carried) -> Carried:
            lived = self._cohort().lived(problem, theta, key, carried.lived)
            if self.tail is None:
                return Carried(lived, ())
            escort, _, losses = self.tail.live(problem, self.schedule, theta, carried, key)
            return Carried(Lived(lived.life, jnp.where(all_finite(losses), lived.age, self.horizon)), escort)

        lives = self._cohort().aged(problem, theta, key, begin, window)
        rows = merged(self.window, self.depth).shape[-1] + (self.tail is not None)
        dtype = jax.eval_shape(products, jax.tree.map(lambda x: x[None], theta)).dtype
        nothing = jnp.zeros((rows, rows), dtype)
        return Weighed(lives, Moments(nothing, nothing), jnp.zeros((), dtype), jnp.ones(rows, dtype))

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Weighed, key: PRNGKeyArray
    ) -> tuple[Estimate, Weighed]:
        """Leads every life through one window and adds up its rows with the weights that the past suggests."""

        def one(theta: Theta, key: PRNGKeyArray, carried: Carried | None, index: Int[Array, ""]) -> tuple[Any, Any]:
            after, rows, unrolled, finite = self._rows(problem, theta, carried, life_key(key, index))
            rows = masked(finite, rows)
            return after, (rows, products(rows), Tally.of(unrolled.reports, finite))

        lives, (total, gram, tally) = self._cohort().each(one, (theta, key), state.lives)
        weighted = jax.tree.map(lambda x: jnp.tensordot(state.weights.astype(x.dtype), x, axes=1), total)
        estimate = self._cohort().mean(weighted, tally)
        learnt = on_one(self._learnt, state._replace(lives=None), total, gram, tally.finite)
        return estimate, Weighed(lives, *learnt)

    def _cohort(self) -> Cohort:
        return Cohort(self.schedule, self.lives, self.microbatch)

    def _rows(
        self, problem: InnerProblem, theta: Theta, carried: Carried | None, key: PRNGKeyArray
    ) -> tuple[Carried | None, Theta, Unrolled, Array]:
        """One life through a window: what is carried, its rows, what it reported, whether all of that is finite."""
        lived = carried and carried.lived
        unrolled = by_lag(problem, self.schedule, theta, lived, key, merged(self.window, self.depth))
        rows, finite, escort = unrolled.rows, jnp.isfinite(unrolled.loss) & all_finite(unrolled.rows), ()
        if self.tail:
            escort, noise, losses = self.tail.live(problem, self.schedule, theta, carried, key)
            last, sound = self.tail.residual(noise, losses, jax.tree.map(lambda x: jnp.sum(x, axis=0), rows))
            rows = jax.tree.map(lambda x, r: jnp.concatenate([x, r[None]]), rows, last)
            finite &= sound & all_finite(last)
        after = self._cohort().after(lived, unrolled.life, finite)
        return after and Carried(after, escort), rows, unrolled, finite

    def _learnt(self, state: Weighed, total: Theta, gram: Array, count: Array) -> tuple[Moments, Array, Array]:
        """The moments with those of this estimate, and the weights for the next one."""
        mass = self.memory * state.mass + (1 - self.memory)
        now = Moments.of(total, gram, count.astype(gram.dtype))
        sums = jax.tree.map(lambda old, new: self.memory * old + (1 - self.memory) * new, state.moments, now)
        means = jax.tree.map(lambda x: x / mass, sums)
        # In units of one forward pass, a row costs about two: a backward pass, or the two lives of a tail.
        return sums, mass, self.weigh(means, jnp.full_like(state.weights, 2), state.weights)


def _nearest(depth: int) -> int:
    exponent = max(depth, 1).bit_length() - 1
    return min(2**exponent, 2 ** (exponent + 1), key=lambda power: abs(power - depth))
