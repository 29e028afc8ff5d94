"""Persistent evolution strategies with the exact gradient of the present window."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from truncation.antithetic import Antithetic
from truncation.controlled import Controlled
from truncation.controls import WindowGradient
from truncation.evolution import Strategy
from truncation.noise import Arm, Noise, gaussian
from truncation.problem import Theta
from truncation.schedule import Schedule
from truncation.shaping import unshaped


def _history(theta: Theta, std: float, history: Theta, key: PRNGKeyArray) -> tuple[Arm, Arm]:
    """Credit to the noise of earlier windows alone; after a birth there is none."""
    noise = gaussian(theta, std, key)
    total = jax.tree.map(jnp.add, history, noise)
    return Arm(noise, history, total), Arm(noise, jax.tree.map(jnp.zeros_like, noise), noise)


history = Noise(blank=lambda theta, key: jax.tree.map(jnp.zeros_like, theta), draw=_history)


@dataclass(frozen=True)
class AnalyticPES(Strategy):
    """PES with the analytic gradient of the window (PES-A; Vicol, Metz & Sohl-Dickstein 2021, appendix).

    Backpropagation finds the influence of theta within the window, persistent noise only that of earlier windows:

        ĝ_w = 1/pairs Σ_pairs p_w + ξ_{w-1} / σ² ((L_w+ - L_w-) / 2 - ε_w·p_w),   ξ_{w-1} = Σ_{v<w} ε_v

    It is `ControlVariateES(PersistentES(...), WindowGradient(), beta=1.0)` less the credit to ε_w: where p_w is exact,
    that credit is noise around zero.

    Unbiased, at fixed theta and over the ages of lives, for what `PersistentES` is unbiased for, provided that losses
    are differentiable and that what is sampled inside does not depend on theta. For this the mean of p_w has to be the
    derivative of the smoothed window. So we depart from the published code, whose particle for p_w lives with theta (a
    bias of order σ²): ours lives with noise of its own, drawn anew in every window as the pair's is. That adds variance
    of order σ² as well; `smooth=False` is the published estimator.

    Fails where the window is long enough for its own gradient to explode; a p_w that is not finite counts as zero,
    which leaves out the window's own influence. `ControlVariateES` has neither weakness, at a higher variance.

    Cost of an estimate: lives * window segments forward, lives / 2 * window forward and backward. Memory: 3/2 lives
    lives and lives / 2 copies of theta between estimates, and the residuals of `window` segments of half a micro-batch.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate, and per noise.
      lives: particles, two a pair.
      std: σ of the noise.
      stagger: spread the ages of pairs over the horizon by real burn-in (else lock-step).
      microbatch: how many particles run at once (0: all).
      remat: trade two more forward passes for memory.
      smooth: perturb the particle for p_w.
    """

    horizon: int
    window: int
    lives: int
    std: float
    stagger: bool = True
    microbatch: int = 0
    remat: bool = False
    smooth: bool = True

    def core(self) -> Controlled:
        schedule = Schedule(self.horizon, self.window, self.stagger)
        core = Antithetic(schedule, self.lives, self.std, self.microbatch, unshaped, history)
        return Controlled(core, WindowGradient(self.remat, self.smooth), 1.0)
