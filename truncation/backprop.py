"""Reverse mode through a window of a lifetime."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from truncation.lives import Tally, all_finite, check_microbatch, life_key, over_lives, strong
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
        Schedule(self.horizon, self.window)
        if self.lives < 1:
            raise ValueError(f"lives={self.lives}: at least 1 is needed")
        check_microbatch(self.lives, self.microbatch)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip} is neither None nor positive")

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.horizon, self.window, self.stagger, self.remat)

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Lived | None:
        """Lives of the scheduled ages; None if every window is a whole lifetime. Costs up to a horizon of segments."""
        if self.schedule.whole:
            return None
        windows, ages = self.schedule.burn_in(self.lives)

        def unborn(theta: Theta, key: PRNGKeyArray, index: Int[Array, ""], age: Int[Array, ""]) -> tuple[Lived, tuple]:
            return Lived(strong(problem.start(theta, life_key(key, index))), age), ()

        def window(lived: Lived, number: Int[Array, ""]) -> tuple[Lived, None]:
            return self._burn(problem, theta, lived, jax.random.fold_in(key, number)), None

        shared = theta, jax.random.fold_in(key, windows)
        lived, _ = over_lives(unborn, shared, self._indices(), ages, microbatch=self.microbatch)
        if windows:
            lived, _ = jax.lax.scan(window, lived, jnp.arange(windows, dtype=jnp.int32))
        return lived

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Lived | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Lived | None]:
        """Leads every life through one window and differentiates the mean loss of the window."""

        def one(theta: Theta, key: PRNGKeyArray, lived: Lived | None, index: Int[Array, ""]) -> tuple[Any, Any]:
            def window_loss(theta: Theta) -> tuple[Array, Any]:
                life, reports = self.schedule.live(problem, (theta, theta), lived, life_key(key, index))
                return jnp.mean(reports.loss), (life, reports)

            (loss, (life, reports)), gradient = jax.value_and_grad(window_loss, has_aux=True)(theta)
            finite = jnp.isfinite(loss) & all_finite(gradient)
            gradient = jax.tree.map(lambda g: jnp.where(finite, g, 0), self._clipped(gradient))
            return self._after(lived, life, finite), (gradient, Tally.of(reports, finite))

        state, (total, tally) = over_lives(one, (theta, key), state, self._indices(), microbatch=self.microbatch)
        gradient = jax.tree.map(lambda g: (g / jnp.maximum(tally.finite, 1)).astype(g.dtype), total)
        return Estimate(gradient, *tally.mean(self.lives)), state

    def _indices(self) -> Int[Array, " lives"]:
        return jnp.arange(self.lives, dtype=jnp.int32)

    def _burn(self, problem: InnerProblem, theta: Theta, lived: Lived, key: PRNGKeyArray) -> Lived:
        def one(theta: Theta, key: PRNGKeyArray, lived: Lived, index: Int[Array, ""]) -> tuple[Any, tuple]:
            life, reports = self.schedule.live(problem, (theta, theta), lived, life_key(key, index))
            return self._after(lived, life, all_finite(reports.loss)), ()

        return over_lives(one, (theta, key), lived, self._indices(), microbatch=self.microbatch)[0]

    def _after(self, lived: Lived | None, life: Any, finite: Bool[Array, ""]) -> Lived | None:
        """The life as it leaves the window; a dead one is due."""
        if lived is None:
            return None
        return Lived(life, jnp.where(finite, self.schedule.age_after(lived.age), self.horizon))

    def _clipped(self, gradient: Theta) -> Theta:
        if self.clip is None:
            return gradient
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)))
        scale = self.clip / jnp.maximum(norm, self.clip)
        return jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradient)
