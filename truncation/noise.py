"""The noise of a pair: how long it is kept, and what losses are credited with."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray, PyTree

from truncation.problem import Theta

Trace: TypeAlias = PyTree  # what a pair remembers about its noise


class Arm(NamedTuple):
    """The perturbation of one lifetime within one window.

    Attributes:
      noise: ε; the particles live with theta ± ε.
      credit: ξ, what the losses of these segments are correlated with.
      trace: what the pair remembers, if this is the lifetime that it leaves the window in.
    """

    noise: Theta
    credit: Theta
    trace: Trace


class Noise(NamedTuple):
    """How long a noise is kept, and what it is credited with.

    Attributes:
      blank: `(theta, key) -> trace` of a pair that has not lived.
      draw: `(theta, std, trace, key) -> (old, new)`, the arms of the lifetime that enters the window and of one that
        begins in it. Called twice with the same arguments: noise is regenerated rather than kept.
    """

    blank: Callable[[Theta, PRNGKeyArray], Trace]
    draw: Callable[[Theta, float, Trace, PRNGKeyArray], tuple[Arm, Arm]]


def gaussian(theta: Theta, std: float, key: PRNGKeyArray) -> Theta:
    """ε ~ N(0, std² I), in the structure and dtypes of theta. One draw for all leaves: many small ones take longer."""
    flat, unravel = ravel_pytree(theta)
    # A child of the key: callers derive others from it.
    return unravel(std * jax.random.normal(jax.random.fold_in(key, 0), flat.shape, flat.dtype))


def fresh(theta: Theta, std: float, trace: Trace, key: PRNGKeyArray) -> tuple[Arm, Arm]:
    """New noise every window, and nothing is remembered."""
    noise = gaussian(theta, std, key)
    arm = Arm(noise, noise, trace)
    return arm, arm


every_window = Noise(blank=lambda theta, key: (), draw=fresh)
