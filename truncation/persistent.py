"""Persistent evolution strategies: credit goes to all the noise that a life has seen."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from truncation.evolution import WindowedES
from truncation.noise import Arm, Noise, gaussian
from truncation.problem import Theta


def _accumulated(theta: Theta, std: float, history: Theta, key: PRNGKeyArray) -> tuple[Arm, Arm]:
    """ξ = history + ε for the segments of the old life, its last one included; ε alone after a birth."""
    noise = gaussian(theta, std, key)
    total = jax.tree.map(jnp.add, history, noise)
    return Arm(noise, total, total), Arm(noise, noise, noise)


accumulated = Noise(blank=lambda theta, key: jax.tree.map(jnp.zeros_like, theta), draw=_accumulated)


class PersistentES(WindowedES):
    """Persistent evolution strategies (PES; Vicol, Metz & Sohl-Dickstein 2021).

    New noise every window, particles that persist, and credit to the sum of all noise since the birth:

        ξ_w = ξ_{w-1} + ε_w,   ĝ_w = 1/pairs Σ_pairs ξ_w (L_w+ - L_w-) / (2 σ²),   ξ = 0 at a birth

    Unbiased, at fixed theta and over the ages of lives, for the gradient of the mean segment loss of a lifetime
    smoothed by independent noise in every window. The variance grows with the number of windows in a lifetime. If a
    birth falls inside the window, the segments before it (the terminal one too) are credited with history + ε, those
    after it with ε, which is then the new history. `std` is a setting: it cannot change under the accumulator.

    Cost of an estimate: lives * window segments forward. Memory: lives lives and lives / 2 copies of theta between
    estimates.
    """

    noise = accumulated
