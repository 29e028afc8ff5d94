"""Somebody else who learns: linear actor-critics that share a game with the agent, as part of its task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

DISCOUNT = 0.96


class Partner(NamedTuple):
    """A learner. Of an observation o, x = (o / max(1, |o|), 1); logits are `policy` x, the value is `value` . x."""

    policy: Float[Array, "actions n+1"]
    value: Float[Array, " n+1"]


def born(key: PRNGKeyArray, size: int, actions: int, scale: float = 1.0) -> Partner:
    """A partner with habits: a random policy, of logits of about `scale`; it expects nothing."""
    return Partner(scale * jax.random.normal(key, (actions, size + 1)), jnp.zeros(size + 1))


def act(partner: Partner, obs: Float[Array, " n"], key: PRNGKeyArray) -> Int[Array, ""]:
    """An action as its policy says."""
    return jax.random.categorical(key, partner.policy @ _features(obs)).astype(jnp.int32)


class Lesson(NamedTuple):
    """One step of a partner's life."""

    obs: Float[Array, " n"]
    action: Int[Array, ""]
    reward: Float[Array, ""]
    done: Bool[Array, ""]
    next_obs: Float[Array, " n"]


def learn(partner: Partner, rate: Float[Array, ""], lesson: Lesson) -> Partner:
    """One-step actor-critic (Sutton & Barto 2018, section 13.5), without their factor gamma^t:

    delta = r + gamma (1 - done) v(x') - v(x),   value += rate delta x,   policy += rate delta (e_a - pi(x)) x^T
    """
    x, following = _features(lesson.obs), _features(lesson.next_obs)
    bootstrap = jnp.where(lesson.done, 0.0, DISCOUNT * partner.value @ following)
    surprise = lesson.reward + bootstrap - partner.value @ x
    chosen = jax.nn.one_hot(lesson.action, partner.policy.shape[0])
    score = jnp.outer(chosen - jax.nn.softmax(partner.policy @ x), x)
    return Partner(partner.policy + rate * surprise * score, partner.value + rate * surprise * x)


def _features(obs: Float[Array, " n"]) -> Float[Array, " n+1"]:
    return jnp.append(obs / jnp.maximum(1.0, jnp.linalg.norm(obs)), 1.0)
