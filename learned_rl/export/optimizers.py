"""Learned optimizers for any tree of parameters, as pure functions and as an `optax` transformation.

Where a training loop does not know what an optimizer would see, neutral answers stand in: every unit of a layer equally
loud (dormancy 1), no progress, no noise, and tensors in one network, each layer after the one before it in the tree.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.learned_optimizers.protocol import LearnedOptimizer, Senses, Site, normal_like
from learned_rl.types import Params, Theta

Number = float | Float[Array, ""]
Places = Callable[[Params], tuple[Site, ...]]


def start(optimizer: LearnedOptimizer, theta: Theta, params: Params) -> Any:
    """The state of an optimizer that has seen nothing; `params` is any tree of arrays."""
    return optimizer.start(params)


def step(
    optimizer: LearnedOptimizer,
    theta: Theta,
    gradient: Params,
    state: Any,
    params: Params,
    *,
    activations: Params | None = None,
    training: Number = 0.0,
    batch: Number = 0.0,
    key: PRNGKeyArray | None = None,
    sites: tuple[Site, ...] | None = None,
    learning_rate: Number = 1e-3,
) -> tuple[Params, Any]:
    """New parameters, and the state after them.

    `activations` is a tree like the parameters of `[units]`: mean over the batch of |output| of the tensor's layer,
    after its nonlinearity. `training` and `batch` are the shares of training, and of the passes over one batch of data,
    that have passed, from 0 to 1. `key` is of learned exploration noise; without one there is none. `sites` says of
    every tensor, in the order of `jax.tree.leaves`, of which network it is, at which share of its depth, and whether it
    explores (the policy's do). `learning_rate` is read by optimizers that have one.
    """
    senses = Senses(
        activations=jax.tree.map(_alike, params) if activations is None else activations,
        training=jnp.asarray(training, jnp.float32),
        batch=jnp.asarray(batch, jnp.float32),
        noise=jax.tree.map(jnp.zeros_like, params) if key is None else normal_like(params, key),
        sites=in_order(params) if sites is None else sites,
    )
    return optimizer.update(theta, gradient, state, params, senses, learning_rate)


def in_order(params: Params) -> tuple[Site, ...]:
    """One network, and its layers in the order of the tree: tensors with the same parent are one layer."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    layers = list(dict.fromkeys(path[:-1] for path in paths))
    last = max(len(layers) - 1, 1)
    return tuple(Site("agent", layers.index(path[:-1]) / last, True) for path in paths)


def _alike(tensor: Array) -> Float[Array, " units"]:
    return jnp.ones(tensor.shape[-1:] or (1,), tensor.dtype)
