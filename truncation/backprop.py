"""Reverse mode through a window of a lifetime."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from truncation.cohort import Cohort, masked
from truncation.lives import Tally, all_finite, life_key
from truncation.problem import Estimate, InnerProblem, Theta
from truncation.schedule import Lived, Schedule


@dataclass(frozen=True)
class TruncatedBackprop:
    """Back-propagation through `window` segments; through the whole lifetime where `window == horizon`.

    With L_t the loss of segment t and theta_τ the meta-parameters as used in segment τ, a window w contributes

        ĝ_w = 1/window Σ_{t∈w} Σ_{τ∈w, τ≤t} dL_t/dθ_τ

    (Werbos 1990; Williams & Peng 1990: lives enter a window as data, so no derivative crosses its head).

    Unbiased for the gradient of the mean segment loss, at fixed theta, iff `window == horizon`, and only for what is
    differentiable: how inner data depend on theta through sampling is the business of the meta-objective. Shorter
    windows drop every influence that is older than the window: a bias of any size and sign (influence balancing,
    Vicol et al. 2021). The mean is over lives whose loss and gradient are finite.

    Cost of an estimate: lives * window segments forward and backward. Memory: the residuals of `window` segments of one
    micro-batch, with `remat` about 2 sqrt(window) lives and the residuals of one segment; plus micro-batch * |theta|.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      lives: how many live side by side.
      stagger: spread their ages over the horizon by real burn-in (else lock-step).
      remat: trade two more forward passes for memory.
      microbatch: how many lives run at once (0: all).
      clip: largest norm of the gradient of one life. Biased; the answer to rare explosions, not to chaos.
    """

    horizon: int
    window: int
    lives: int
    stagger: bool = True
    remat: bool = False
    microbatch: int = 0
    clip: float | None = None

    def __post_init__(self):
        self._cohort()
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip} is neither None nor positive")

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.horizon, self.window, self.stagger, self.remat)

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Lived | None:
        """Lives of the scheduled ages; None if every window is a whole lifetime. Costs up to a horizon of segments."""
        return self._cohort().aged(problem, theta, key)

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Lived | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Lived | None]:
        """Leads every life through one window and differentiates the mean loss of the window."""
        cohort = self._cohort()

        def one(theta: Theta, key: PRNGKeyArray, lived: Lived | None, index: Int[Array, ""]) -> tuple[Any, Any]:
            def window_loss(theta: Theta) -> tuple[Array, Any]:
                life, reports = self.schedule.live(problem, (theta, theta), lived, life_key(key, index))
                return jnp.mean(reports.loss), (life, reports)

            (loss, (life, reports)), gradient = jax.value_and_grad(window_loss, has_aux=True)(theta)
            finite = jnp.isfinite(loss) & all_finite(gradient)
            gradient = masked(finite, self._clipped(gradient))
            return cohort.after(lived, life, finite), (gradient, Tally.of(reports, finite))

        state, (total, tally) = cohort.each(one, (theta, key), state)
        return cohort.mean(total, tally), state

    def _cohort(self) -> Cohort:
        return Cohort(self.schedule, self.lives, self.microbatch)

    def _clipped(self, gradient: Theta) -> Theta:
        if self.clip is None:
            return gradient
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)))
        scale = self.clip / jnp.maximum(norm, self.clip)
        return jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradient)
