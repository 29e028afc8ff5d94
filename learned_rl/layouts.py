"""Where the walls of a grid world are."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

Layout: TypeAlias = Callable[[PRNGKeyArray, int], Bool[Array, "size size"]]
"""Where walls are. What is free must hang together."""


def open_floor(key: PRNGKeyArray, size: int) -> Bool[Array, "size size"]:
    """No walls."""
    del key
    return jnp.zeros((size, size), bool)


def maze(key: PRNGKeyArray, size: int) -> Bool[Array, "size size"]:
    """A perfect maze: rooms at even coordinates, one way between any two of them: a random spanning tree, by Prim.

    Weights of the passages between rooms are drawn; the tree of least weight is opened. `size` is odd.
    """
    rooms = (size + 1) // 2
    ends = jnp.asarray(_passages(rooms))
    weights = jax.random.uniform(key, (len(ends),))

    def grow(_: int, tree: tuple[Bool[Array, " rooms"], Bool[Array, " passages"]]) -> tuple[Array, Array]:
        reached, opened = tree
        leads_on = reached[ends[:, 0]] != reached[ends[:, 1]]
        chosen = jnp.argmin(jnp.where(leads_on, weights, jnp.inf))
        return reached.at[ends[chosen]].set(True), opened.at[chosen].set(True)

    start = jnp.zeros(rooms**2, bool).at[0].set(True), jnp.zeros(len(ends), bool)
    _, opened = jax.lax.fori_loop(0, rooms**2 - 1, grow, start)
    walls = jnp.ones((size, size), bool).at[::2, ::2].set(False)
    row, column = jnp.divmod(ends, rooms)
    return walls.at[row.sum(axis=1), column.sum(axis=1)].set(~opened)  # halfway between 2 r and 2 r': r + r'


def _passages(rooms: int) -> Int[np.ndarray, "passages 2"]:
    """The pairs of neighbouring rooms, numbered by row."""
    number = np.arange(rooms**2).reshape(rooms, rooms)
    across, down = (number[:, :-1], number[:, 1:]), (number[:-1], number[1:])
    return np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in (across, down)])
