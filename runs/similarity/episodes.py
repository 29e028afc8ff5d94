"""What a policy that does not learn does in a task."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.rollout import collect, start_streams
from learned_rl.types import Params, Rollout
from runs.similarity.sets import TaskSet


def experience(tasks: TaskSet, task: PyTree, params: Params, streams: int, key: PRNGKeyArray) -> Rollout:
    """One policy in one task: `streams` streams for a horizon, so that each has at least one whole episode."""
    policy = tasks.lifetime(task).policy
    key_start, key_act = jax.random.split(key)
    start = start_streams(tasks.trial.tasks, task, policy, streams, key_start)
    keys = jax.random.split(key_act, tasks.horizon)
    return collect(tasks.trial.tasks, task, policy, params, start, keys, jnp.zeros(()))[1]


def first_return(rollout: Rollout, discount: float) -> Float[Array, " B"]:
    """Discounted return of the first episode of every stream; means over all that end would favour short ones."""
    last = rollout.last.astype(jnp.float32)
    running = jnp.cumprod(jnp.concatenate([jnp.ones_like(last[:1]), 1 - last[:-1]]), axis=0)
    weights = discount ** jnp.arange(last.shape[0])
    return jnp.sum(weights[:, None] * running * rollout.reward, axis=0)
