"""The published evaluation of Disco103: Catch 8x8, two streams, a replay of 1024 rollouts, 64 of them an update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_rl.action_network import ActionNetwork
from learned_rl.families import catch
from learned_rl.lifetime import Agent, Lifetime
from learned_rl.rollout import over_steps
from learned_rl.types import Rollout

STREAMS, STEPS, CAPACITY, BATCH, WINDOW = 2, 29, 1024, 64, 50


class Run(NamedTuple):
    agent: Agent
    replay: Rollout  # leaves [capacity, T, ...]: rollouts of one stream
    iteration: Any


class Window(NamedTuple):
    """Of one iteration: what the acting agent caught, and how the update went."""

    caught: Any
    episodes: Any
    metrics: Any


def lifetime(rule):
    return Lifetime(catch(8, 8), rule, ActionNetwork(), STREAMS, STEPS, updates=1000)


def by_stream(rollout):
    """Leaves `[B, T, ...]`, and nothing of when in the life it was."""
    return over_steps(lambda x: jnp.swapaxes(x, 0, 1), rollout)._replace(progress=(), lifetime=())


def start(rule, theta, key):
    life = lifetime(rule)
    agent = life.start(theta, key)
    rollout = jax.eval_shape(lambda: by_stream(life.act(agent, key)[1]))
    replay = jax.tree.map(lambda x: jnp.zeros((CAPACITY, *x.shape[1:]), x.dtype), rollout)
    return Run(agent, replay, jnp.zeros((), jnp.int32))


def iterate(rule, theta, run, key):
    """Acts, stores what happened, and learns from a draw of what is stored, as soon as there are 64 rollouts."""
    life = lifetime(rule)
    key_act, key_draw, key_update = jax.random.split(key, 3)
    streams, rollout = life.act(run.agent, key_act)
    place = STREAMS * run.iteration % CAPACITY
    replay = jax.tree.map(
        lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, place, 0), run.replay, by_stream(rollout)
    )
    stored = jnp.minimum(STREAMS * (run.iteration + 1), CAPACITY)
    chosen = jax.random.randint(key_draw, (BATCH,), 0, stored)
    drawn = jax.tree.map(lambda x: jnp.swapaxes(x[chosen], 0, 1), replay)
    drawn = drawn._replace(progress=rollout.progress, lifetime=rollout.lifetime)
    old = run.agent
    params, state, metrics = rule.update(theta, old.params, old.rule_state, drawn, life.policy, key_update)
    params, state = jax.tree.map(
        lambda new, old: jnp.where(stored >= BATCH, new, old), (params, state), (old.params, old.rule_state)
    )
    agent = old._replace(streams=streams, params=params, rule_state=state, updates=old.updates + 1)
    episodes = jnp.sum(rollout.last)
    return Run(agent, replay, run.iteration + 1), Window(jnp.sum(rollout.reward > 0), episodes, metrics)


def window(rule, theta, run, key):
    """50 iterations: the run after them, and the catch rate and metrics in them. One program."""

    def step(run, iteration):
        return iterate(rule, theta, run, jax.random.fold_in(key, iteration))

    run, seen = jax.lax.scan(step, run, run.iteration + jnp.arange(WINDOW))
    caught = jnp.sum(seen.caught) / jnp.sum(seen.episodes)
    return run, caught, jax.tree.map(jnp.mean, seen.metrics)
