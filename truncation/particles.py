"""The particles of a pair: which lives run through a window, and which states are carried to the next."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from truncation.problem import Life, Segment, Theta


def side_by_side(
    live: Callable, thetas: tuple[Theta, ...], lives: Life, axis: int | None
) -> tuple[Life, Segment, tuple]:
    """All particles through the window at once, and nothing is differentiated."""
    if thetas[-1] is thetas[0]:
        thetas = thetas[:1]  # a fact that `vmap` would hide
    lives, reports = jax.vmap(live, (0, axis))(thetas, lives)
    return lives, reports, ()


class Particles(NamedTuple):
    """Which lives run through a window, and which are carried to the next.

    Attributes:
      number: of particles; the first two are the pair.
      thetas: `(theta, noise, std, key)` -> what they live with, stacked.
      axis: of the particles in the carried life; None if one life is carried, from which all of them start.
      keep: the states of all particles at the end of a window -> what is carried.
      lead: `(live, thetas, lives, axis) -> (lives, reports, slopes)`, given `live(thetas, life) -> (life, reports)`
        for one particle and its thetas in all parts of the window. `slopes` is what else is known about the window.
    """

    number: int
    thetas: Callable[[Theta, Theta, float, PRNGKeyArray], Theta]
    axis: int | None
    keep: Callable[[Life], Life]
    lead: Callable[..., tuple[Life, Segment, Any]] = side_by_side


def mirrored(theta: Theta, noise: Theta, *others: Theta) -> Theta:
    """theta + ε, theta - ε, and what else there is, stacked."""
    return jax.tree.map(lambda t, n, *more: jnp.stack([t + n, t - n, *more]), theta, noise, *others)


both = Particles(2, lambda theta, noise, std, key: mirrored(theta, noise), axis=0, keep=lambda lives: lives)

# All particles start the window where the life under theta itself stands; it runs along as a third particle. (To carry
# the + particle instead, as learned_optimization does, makes the state drift with the noise.)
mean_life = Particles(
    number=3,
    thetas=lambda theta, noise, std, key: mirrored(theta, noise, theta),
    axis=None,
    keep=lambda lives: jax.tree.map(lambda x: x[2], lives),
)
