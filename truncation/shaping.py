"""Fitness shaping: monotone transforms of the losses that an evolution strategy compares.

A shaping takes the losses of n antithetic pairs, `[n, 2]`, and which pairs are `valid`; it returns fitnesses of the
same shape. Invalid rows are ignored, whatever they hold, and what is returned for them is never used. Only `unshaped`
leaves an unbiased gradient of the loss; each window is transformed for itself, so with truncated estimators the weight
of early against late segments is lost as well.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Shaping: TypeAlias = Callable[[Float[Array, "n 2"], Bool[Array, " n"]], Float[Array, "n 2"]]


def unshaped(losses: Float[Array, "n 2"], valid: Bool[Array, " n"]) -> Float[Array, "n 2"]:
    """The losses themselves."""
    del valid
    return losses


def centred_ranks(losses: Float[Array, "n 2"], valid: Bool[Array, " n"]) -> Float[Array, "n 2"]:
    """Ranks over all valid losses, scaled to [-1/2, 1/2] (Wierstra et al. 2014; Salimans et al. 2017).

    Equal losses get equal ranks: otherwise the order of the particles would be a gradient on a plateau.
    """
    flat = jnp.where(valid[:, None], losses, jnp.inf).reshape(-1)
    ordered = jnp.sort(flat)
    rank = (jnp.searchsorted(ordered, flat, side="left") + jnp.searchsorted(ordered, flat, side="right") - 1) / 2
    highest = jnp.maximum(2 * jnp.sum(valid) - 1, 1)
    return (rank / highest - 0.5).astype(losses.dtype).reshape(losses.shape)


def z_scores(losses: Float[Array, "n 2"], valid: Bool[Array, " n"]) -> Float[Array, "n 2"]:
    """Losses in standard deviations from their mean, over all valid losses; zero where all are equal."""
    count = jnp.maximum(2 * jnp.sum(valid), 1)
    centred = losses - jnp.sum(jnp.where(valid[:, None], losses, 0)) / count
    variance = jnp.sum(jnp.where(valid[:, None], centred**2, 0)) / count
    return jnp.where(variance > 0, centred / jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0).astype(losses.dtype)
