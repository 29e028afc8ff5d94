"""Transfer: what agents that come from A earn while they learn in B, above agents that are born there.

    gain(A, B) = (AUC(A -> B) - AUC(0 -> B)) / (R(B -> B) - R(0 -> B))

AUC is the mean return along a training run in B. Agents bring their parameters and nothing else: optimizers start anew.
"""

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.types import Params
from runs.similarity.lanes import at, grid, key_of, side_by_side
from runs.similarity.sets import TaskSet

CONTINUING = 21  # root of randomness
SHARE = 0.25  # of a training run: how long agents learn in B


def areas(tasks: TaskSet, params: Params, seeds: range) -> Float[np.ndarray, "n+1 n seeds"]:
    """AUC(A -> B) of every agent in `params [n + 1, seeds, ...]`, newborn ones in the last row."""
    sources, many = jax.tree.leaves(params)[0].shape[:2]
    source, target, seed = grid(sources, len(tasks), many)

    def life(task: PyTree, params: Params, key: PRNGKeyArray) -> Float[Array, ""]:
        here = tasks.lifetime(task, updates=max(1, round(SHARE * tasks.trial.updates)))
        key_start, key_life = jax.random.split(key)
        return here.whole((), here.start((), key_start)._replace(params=params), key_life)[1].mean()

    keys = key_of(CONTINUING, target, np.asarray(seeds)[seed])  # the same in B, wherever an agent comes from
    earned = side_by_side(life, at(tasks.tasks, target), at(params, source, seed), keys)
    return earned.reshape(sources, len(tasks), many)


def gain(areas: Float[np.ndarray, "n+1 n seeds"], scale: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """gain(A, B), with `runs.similarity.policies.scale`."""
    mean = areas.mean(axis=-1)
    return (mean[:-1] - mean[-1]) / scale
