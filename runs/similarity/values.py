"""Distance by values: what the same random policies earn in both tasks.

Policies k = 1 .. K are networks with standard normal weights, the same in every task. With v_k(A) the expected
discounted return of an episode of policy k in A, and s the standard deviation of v over policies, averaged over tasks,

    d(A, B)^2 = mean_k (v_k(A) - v_k(B))^2 / s^2.

`quantiles` compares the distributions of v instead, sorted: the Wasserstein-2 distance. It does not need that the
same policy can act in both tasks, so it is defined across shapes.

v is estimated twice, with independent random numbers, and a square is the product of the two estimates (of the sorted
ones, too), so that the noise of v adds nothing to d: of a task to its copy it is 0 on average, not above. (A negative
square counts as 0.) Like all pseudo-metrics of value, d is 0 for tasks that the policies cannot tell apart.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.types import Params, Policy
from runs.similarity.episodes import experience, first_return
from runs.similarity.lanes import at, grid, key_of, side_by_side
from runs.similarity.sets import TaskSet

POLICIES, EPISODES = 31, 32  # roots of randomness
DISCOUNT = 0.99


def random_policies(policy: Policy, count: int) -> Params:
    """Parameters `[count, ...]`, every number of them standard normal."""

    def one(key: PRNGKeyArray) -> Params:
        leaves, structure = jax.tree.flatten(jax.eval_shape(policy.init, key))
        keys = jax.random.split(key, len(leaves))
        drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, drawn)

    return jax.vmap(one)(key_of(POLICIES, np.arange(count)))


def values(tasks: TaskSet, policies: Params, streams: int) -> Float[np.ndarray, "2 n K"]:
    """Two independent estimates of v_k(A), means over `streams` episodes. Random numbers are common to all tasks."""
    half, task = grid(2, len(tasks))

    def both(task: PyTree, key: PRNGKeyArray) -> Float[Array, " K"]:
        def one(params: Params, key: PRNGKeyArray) -> Float[Array, ""]:
            return jnp.mean(first_return(experience(tasks, task, params, streams, key), DISCOUNT))

        return jax.vmap(one)(policies, jax.random.split(key, len(jax.tree.leaves(policies)[0])))

    found = side_by_side(both, at(tasks.tasks, task), key_of(EPISODES, half))
    return found.reshape(2, len(tasks), -1)


def distance(v: Float[np.ndarray, "2 n K"]) -> Float[np.ndarray, "n n"]:
    """d(A, B)."""
    apart = v[:, :, None, :] - v[:, None, :, :]
    return _root(np.mean(apart[0] * apart[1], axis=-1)) / _spread(v)


def quantiles(v: Float[np.ndarray, "2 n K"]) -> Float[np.ndarray, "n n"]:
    """The same of the distributions of v over policies."""
    return distance(np.sort(v, axis=-1))


def _spread(v: Float[np.ndarray, "2 n K"]) -> float:
    return max(float(v.mean(axis=0).std(axis=-1).mean()), 1e-9)


def _root(square: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    return np.sqrt(np.maximum(square, 0.0))
