"""Many lives of one kind, side by side in one program."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, PyTree

from runs.devices import lives_over
from runs.transfer import at_once
from truncation.lives import over_lives


def side_by_side(function: Callable[..., PyTree], *lanes: PyTree) -> Any:
    """`function` of one lane, over the leading axis of every leaf of `lanes`; numpy arrays come back."""
    count = len(jax.tree.leaves(lanes)[0])
    size = at_once(count)
    program = jax.jit(lambda *lanes: over_lives(lambda *lane: (function(*lane), ()), (), *lanes, microbatch=size)[0])
    with lives_over(count // size):
        return jax.device_get(program(*lanes))


def grid(*sizes: int) -> list[Int[np.ndarray, " n"]]:
    """The indices of an array of those sizes, one flat array an axis."""
    return [axis.ravel() for axis in np.indices(sizes)]


def at(tree: PyTree, *index: Any) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def key_of(root: int, *identity: Int[np.ndarray, " n"]) -> Array:
    """One key a lane, by who it is."""
    keys = jax.numpy.broadcast_to(jax.random.key(root), identity[0].shape)
    for number in identity:
        keys = jax.vmap(jax.random.fold_in)(keys, number)
    return keys
