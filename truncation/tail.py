"""The part of a gradient that back-propagation through a window does not see, measured by an antithetic pair."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from truncation.lives import all_finite, select
from truncation.noise import Arm, Trace, gaussian
from truncation.noise_reuse import for_life
from truncation.problem import InnerProblem, Life, Theta
from truncation.schedule import Lived, Schedule


class Escort(NamedTuple):
    """The pair that runs beside a life: the states under theta + ε and theta - ε, and what it remembers of ε."""

    pair: Life
    trace: Trace


@dataclass(frozen=True)
class ResidualES:
    """The residual of noise-reuse evolution strategies with a control variate (Li et al. 2023).

        r = ε/σ² ((L_w+ - L_w-) / 2 - ε · p),   p = the gradient that back-propagation saw in the same window

    The pair shares every other random number with the life itself. As E ε εᵀ = σ² I and p does not depend on ε, r is
    unbiased for (gradient of the smoothed loss of the window, over all that came before) - p: what is older than the
    window or hidden in non-differentiable steps. One pair has variance (P+1) ‖G_w - p‖² where L is quadratic; it is
    zero where back-propagation saw everything. Where G_w - p is itself random over lives, E ‖r‖² = (P+2) E ‖G_w - p‖²:
    a pair knows the same lags P + 2 times less well than back-propagation would. So a tail is for what cannot be
    differentiated; it does not replace a longer window (on Kesten's loop with P = 8, backprop of 16 lags of 64 and a
    tail have, with the best weights in [0, 1], 1.04 to 5.4 times the error of the best window).

    Cost: two more lives forward, and their states between estimates.

    Attributes:
      std: σ of the noise.
    """

    std: float

    def __post_init__(self):
        if not self.std > 0:
            raise ValueError(f"std={self.std} is not positive")

    def begin(self, theta: Theta, lived: Lived, key: PRNGKeyArray) -> Escort:
        """The pair of a life that has not lived yet (its noise is drawn at the birth)."""
        return Escort(jax.tree.map(lambda x: jnp.stack([x, x]), lived.life), for_life.blank(theta, key))

    def live(
        self,
        problem: InnerProblem,
        schedule: Schedule,
        theta: Theta,
        carried: tuple[Lived, Escort] | None,
        key: PRNGKeyArray,
    ) -> tuple[Escort, Theta, Float[Array, "2 window"]]:
        """Leads the pair through a window: what is carried, its noise and the losses. Births only at the head."""
        arm = self._arm(schedule, theta, carried, key)

        def particle(sign: Float[Array, ""], life: Life | None) -> Any:
            moved = jax.tree.map(lambda t, n: t + sign.astype(n.dtype) * n, theta, arm.noise)
            return schedule.live(problem, (moved, moved), carried and Lived(life, carried[0].age), key)

        lives, reports = jax.vmap(particle)(jnp.array([1.0, -1.0]), carried and carried[1].pair)
        return Escort(lives, arm.trace), arm.noise, reports.loss

    def residual(self, noise: Theta, losses: Float[Array, "2 window"], seen: Theta) -> tuple[Theta, Bool[Array, ""]]:
        """r of one life, and whether the pair is finite."""
        along = sum(jnp.sum(n * s).astype(losses.dtype) for n, s in _leaves(noise, seen))
        means = jnp.mean(losses, axis=1)
        scale = ((means[0] - means[1]) / 2 - along) / self.std**2
        return jax.tree.map(lambda n: n * scale.astype(n.dtype), noise), all_finite(losses)

    def _arm(self, schedule: Schedule, theta: Theta, carried: tuple[Lived, Escort] | None, key: PRNGKeyArray) -> Arm:
        noise_key = jax.random.fold_in(key, schedule.window + 1)  # the segments and the birth use 0..window
        if carried is None:
            noise = gaussian(theta, self.std, noise_key)
            return Arm(noise, noise, for_life.blank(theta, noise_key))
        lived, escort = carried
        old, new = for_life.draw(theta, self.std, escort.trace, noise_key)
        return select(schedule.reborn(lived.age), new, old)


def _leaves(*trees: Theta) -> list[tuple[Array, ...]]:
    return list(zip(*map(jax.tree.leaves, trees), strict=True))
