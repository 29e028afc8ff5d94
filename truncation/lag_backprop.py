"""Reverse mode through a window, with credit weighted by lag."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from truncation.cohort import Cohort, masked
from truncation.credit import Crediting
from truncation.lags import by_lag
from truncation.lives import Tally, all_finite, life_key
from truncation.problem import Estimate, InnerProblem, Theta
from truncation.schedule import Lived, Schedule


@dataclass(frozen=True)
class LagBackprop:
    """Back-propagation whose credit is weighted by how long ago θ acted.

        ĝ_w = Σ_{t∈w} v_t Σ_{τ∈w, τ≤t} w(t, τ) dL_t/dθ_τ

    The weights are a `Crediting`: `Windowed`, `Sliding` (Williams & Peng 1990), `Geometric`, `Averaged` (Bonnet et al.
    2021), `AnticipatedReweighted` (Tallec & Ollivier 2017), `SingleSample` and `RussianRoulette` (Beatson & Adams
    2019).
    No derivative crosses the head of the window, as in `TruncatedBackprop`, and none a birth. Unbiased for the gradient
    of the mean segment loss, at fixed theta, iff the crediting is and `window == horizon`.

    Cost of an estimate: lives * window segments forward, and backward as many times as the crediting has rows. Memory:
    as `TruncatedBackprop`, with so many adjoints and copies of theta per life of a micro-batch.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      lives: how many live side by side.
      credit: weights by lag.
      stagger: spread their ages over the horizon by real burn-in (else lock-step).
      remat: trade two more forward passes for memory.
      microbatch: how many lives run at once (0: all).
    """

    horizon: int
    window: int
    lives: int
    credit: Crediting
    stagger: bool = True
    remat: bool = False
    microbatch: int = 0

    def __post_init__(self):
        self._cohort()

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.horizon, self.window, self.stagger, self.remat)

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Lived | None:
        """Lives of the scheduled ages; None if every window is a whole lifetime. Costs up to a horizon of segments."""
        return self._cohort().aged(problem, theta, key)

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Lived | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Lived | None]:
        """Leads every life through one window and differentiates its loss, lag by lag."""

        def one(theta: Theta, key: PRNGKeyArray, lived: Lived | None, index: Int[Array, ""]) -> tuple[Any, Any]:
            key = life_key(key, index)
            # The segments and the birth use 0..window.
            credit = self.credit(self.window, jax.random.fold_in(key, self.window + 1))

            def importance(losses: Array) -> Array:
                return jnp.sum(losses * jnp.asarray(credit.losses, losses.dtype))

            unrolled = by_lag(problem, self.schedule, theta, lived, key, credit.transfers, importance)
            gradient = jax.tree.map(
                lambda x: jnp.tensordot(jnp.asarray(credit.rows, x.dtype), x, axes=1), unrolled.rows
            )
            finite = all_finite(unrolled.reports.loss) & all_finite(gradient)
            after = self._cohort().after(lived, unrolled.life, finite)
            return after, (masked(finite, gradient), Tally.of(unrolled.reports, finite))

        state, (total, tally) = self._cohort().each(one, (theta, key), state)
        return self._cohort().mean(total, tally), state

    def _cohort(self) -> Cohort:
        return Cohort(self.schedule, self.lives, self.microbatch)
