"""Acting: the streams of one agent, and what they record."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from learned_rl.distributions import action_noise
from learned_rl.types import Memory, Params, Policy, Rollout, TaskFamily


class Streams(NamedTuple):
    """`B` streams of one agent in one task.

    Attributes:
      env: environment states.
      obs: what to act on next.
      last: the previous step ended an episode: clear the memory before acting.
      memory: acting memory, leaves `[B, ...]`.
      running_return: undiscounted return of the episode under way.
      episode_return: return of the last episode that ended; `running_return` before the first has.
      episodes: how many episodes have ended.
    """

    env: PyTree
    obs: Float[Array, "B *obs"]
    last: Bool[Array, " B"]
    memory: Memory
    running_return: Float[Array, " B"]
    episode_return: Float[Array, " B"]
    episodes: Int[Array, " B"]


def start_streams(tasks: TaskFamily, task: PyTree, policy: Policy, count: int, key: PRNGKeyArray) -> Streams:
    """`count` streams at the beginning of their first episode."""
    env, obs = jax.vmap(tasks.reset, in_axes=(None, 0))(task, jax.random.split(key, count))
    zeros = jnp.zeros(count)
    return Streams(
        env, obs, jnp.zeros(count, bool), policy.start_memory(count), zeros, zeros, jnp.zeros(count, jnp.int32)
    )


def begins(rollout: Rollout) -> Bool[Array, "T B"]:
    """Whether each step is the first of its episode, for a memory that was cleared before it was stored."""
    return jnp.concatenate([jnp.zeros_like(rollout.last[:1]), rollout.last[:-1]])


def restart(last: Bool[Array, " B"], fresh: PyTree, following: PyTree) -> Any:
    """`fresh` for the streams whose episode ended, `following` for the others; leaves `[B, ...]`."""
    return jax.tree.map(
        lambda new, old: jnp.where(last.reshape(last.shape + (1,) * (old.ndim - last.ndim)), new, old), fresh, following
    )


def over_steps(function: Callable[[Array], Array], rollout: Rollout) -> Rollout:
    """The rollout with `function` applied to all leaves `[T, B, ...]`; what is not of single steps stays as it is."""
    whole = {"memory": rollout.memory, "progress": rollout.progress, "lifetime": rollout.lifetime}
    steps = rollout._replace(memory=(), progress=(), lifetime=())  # type: ignore[arg-type]
    return jax.tree.map(function, steps)._replace(**whole)


def when(rollout: Rollout) -> Float[Array, "2"]:
    """(n / N, log N): how much of its life an agent has behind it, and how long that is (Jackson et al. 2024)."""
    return jnp.stack([jnp.asarray(rollout.progress), jnp.log(jnp.asarray(rollout.lifetime))])


def collect(
    tasks: TaskFamily, task: PyTree, policy: Policy, params: Params, streams: Streams, keys: Array, progress: Array
) -> tuple[Streams, Rollout]:
    """Acts for one step per key in `keys [T]`.

    Only `behaviour_log_prob` is differentiable in `params`: what was sampled, and all the environment made of it, is
    data. (A real action would otherwise carry a reparametrised gradient into the environment.)
    """
    # Whatever does not depend on the step before is done for all steps at once, before the loop and after it: on few
    # streams, a step costs what its many small kernels cost, and most of those are hashes of keys.
    count = streams.last.shape[0]
    keys = jax.vmap(lambda key: jax.random.split(key, 1 + 2 * count))(keys)
    act_keys, step_keys, reset_keys = keys[:, 0], keys[:, 1 : 1 + count], keys[:, 1 + count :]
    noise = jax.vmap(lambda key: action_noise(tasks.actions, key, (count,)))(act_keys)
    fresh = jax.vmap(jax.vmap(tasks.reset, in_axes=(None, 0)), in_axes=(None, 0))(task, reset_keys)

    def step(streams: Streams, inputs: tuple[Array, Array, PyTree]):
        noise, step_keys, fresh = inputs
        memory, outputs = policy.act(params, streams.memory, streams.obs, streams.last)
        action = jax.lax.stop_gradient(outputs.policy.perturbed(noise))
        env, out = jax.vmap(tasks.step, in_axes=(None, 0, 0, 0))(task, streams.env, action, step_keys)
        env, obs = restart(out.last, fresh, (env, out.next_obs))
        running = streams.running_return + out.reward
        ended = jnp.where(out.last, running, streams.episode_return)
        episodes = streams.episodes + out.last
        following = Streams(
            env=env,
            obs=obs,
            last=out.last,
            memory=memory,
            running_return=jnp.where(out.last, 0.0, running),
            episode_return=jnp.where(episodes > 0, ended, running),
            episodes=episodes,
        )
        return following, (streams.obs, action, out.reward, out.discount, out.last, out.next_obs, outputs.policy)

    cleared = restart(streams.last, policy.start_memory(count), streams.memory)
    streams = streams._replace(memory=cleared, last=jnp.zeros_like(streams.last))
    end, record = jax.lax.scan(step, streams, (noise, step_keys, fresh))
    obs, action, reward, discount, last, next_obs, acted = record
    log_prob = acted.log_prob(action)
    return end, Rollout(
        obs, action, reward, discount, last, next_obs, log_prob, memory=cleared, progress=progress, behaviour=acted
    )
