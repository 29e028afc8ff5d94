"""Distance by transferred policies: how much worse an agent that learned in A acts in B than one that learned in B.

    d(A, B) = 1 - (R(A -> B) - R(0 -> B)) / (R(B -> B) - R(0 -> B))

R(A -> B) is the mean return in B of agents trained in A, which learn nothing in B; 0 are newborn agents. It is
directed, 0 from a task to itself, 1 where what was learned is worth nothing, and above 1 where it misleads. NaN where
agents that learned in B are no better than newborn ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.types import Params
from runs.similarity.episodes import experience, first_return
from runs.similarity.lanes import at, grid, key_of, side_by_side
from runs.similarity.sets import TaskSet

BIRTH, LIFE, ACTING = 11, 12, 13  # roots of randomness
EPISODES = 32  # that an agent is judged by


def trained(tasks: TaskSet, seeds: range) -> Params:
    """Parameters of agents trained on every task, and of newborn ones as the last row: leaves `[n + 1, seeds, ...]`."""
    lifetime = tasks.lifetime(at(tasks.tasks, 0))
    jax.eval_shape(lifetime.policy.init, jax.random.key(0))  # builds the environment here, not inside a shard
    task, seed = grid(len(tasks), len(seeds))

    def life(task: PyTree, birth: PRNGKeyArray, key: PRNGKeyArray) -> Params:
        here = tasks.lifetime(task)
        return here.whole((), here.start((), birth), key)[0].params

    births, lives = (key_of(root, task, np.asarray(seeds)[seed]) for root in (BIRTH, LIFE))
    params = side_by_side(life, at(tasks.tasks, task), births, lives)
    newborn = jax.vmap(lifetime.policy.init)(key_of(BIRTH, np.full(len(seeds), len(tasks)), np.asarray(seeds)))
    shaped = jax.tree.map(lambda x: x.reshape(len(tasks), len(seeds), *x.shape[1:]), params)
    return jax.tree.map(lambda x, new: np.concatenate([x, np.asarray(new)[None]]), shaped, newborn)


def returns(tasks: TaskSet, params: Params, seeds: range) -> Float[np.ndarray, "n+1 n"]:
    """R(A -> B), averaged over agents and episodes; newborn agents in the last row."""
    sources, many = jax.tree.leaves(params)[0].shape[:2]
    source, target, seed = grid(sources, len(tasks), many)

    def act(task: PyTree, params: Params, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.mean(first_return(experience(tasks, task, params, EPISODES, key), 1.0))

    keys = key_of(ACTING, target, np.asarray(seeds)[seed])  # the same in B, wherever an agent comes from
    earned = side_by_side(act, at(tasks.tasks, target), at(params, source, seed), keys)
    return earned.reshape(sources, len(tasks), many).mean(axis=-1)


def scale(earned: Float[np.ndarray, "n+1 n"]) -> Float[np.ndarray, " n"]:
    """What there is to learn in every task, R(B -> B) - R(0 -> B); NaN where nothing was learned."""
    gap = np.diagonal(earned) - earned[-1]
    return np.where(gap > 1e-3 * np.maximum(np.abs(earned[-1]), 1.0), gap, np.nan)


def distance(earned: Float[np.ndarray, "n+1 n"]) -> Float[np.ndarray, "n n"]:
    """d(A, B) of the returns R."""
    return 1 - (earned[:-1] - earned[-1]) / scale(earned)
