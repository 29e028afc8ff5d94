"""Noise-reuse evolution strategies: one noise for a whole lifetime."""

import jax
from jaxtyping import Array, PRNGKeyArray, UInt32

from truncation.evolution import WindowedES
from truncation.noise import Arm, Noise, gaussian
from truncation.problem import Theta


def _kept(theta: Theta, std: float, old: UInt32[Array, "..."], new: PRNGKeyArray) -> tuple[Arm, Arm]:
    """A lifetime remembers the key of its noise (as data); one that begins in the window takes the window's."""
    before = gaussian(theta, std, jax.random.wrap_key_data(old, impl=jax.random.key_impl(new)))
    after = gaussian(theta, std, new)
    return Arm(before, before, old), Arm(after, after, jax.random.key_data(new))


for_life = Noise(blank=lambda theta, key: jax.random.key_data(key), draw=_kept)


class NoiseReuseES(WindowedES):
    """Noise-reuse evolution strategies (NRES; Li et al. 2023), found independently as ES-Single (Vicol et al. 2023).

    One noise per lifetime, particles that persist:

        ĝ_w = 1/pairs Σ_pairs ε (L_w+ - L_w-) / (2 σ²),   ε drawn at the birth

    Unbiased, at fixed theta and over the ages of lives, for the gradient of the mean segment loss of a lifetime
    smoothed by one noise per lifetime: the same target as `FullES`. With staggered lives it has the least variance of
    all noise schedules (one pair: (P+1) ‖G_w‖² per window); of sums over whole lifetimes in lock-step it has not. Where
    lifetimes never end, a small population should be avoided: its noise is never redrawn, so that the estimate is
    multiplied for ever by mean(ε²)/σ².

    Cost of an estimate: lives * window segments forward. Memory: lives lives between estimates; the noise is
    regenerated from a key.
    """

    noise = for_life
