"""OPEN: an optimizer that sees plasticity, exploration and progress (Goldie et al. 2024)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.learned_optimizers.open_network import FEATURES, OpenNetwork, initial, zeros
from learned_rl.learned_optimizers.protocol import Senses, Site, size, split_like
from learned_rl.optimizers import clip_by_global_norm
from learned_rl.types import Params

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
LOG_EPS = 1e-13
SECOND_MOMENT_EPS = 1e-5
DORMANCY_EPS = 1e-11
PUBLISHED = ((8, 16), (16, 32))  # widths of the single-environment and of the multi-environment vectors


class OpenState(NamedTuple):
    """Trees like the parameters: `momenta [..., 6]`, one per decay, and recurrent states `carry [..., gru]`."""

    momenta: Params
    carry: Params


@dataclass(frozen=True)
class Open:
    """One small recurrent network for every scalar parameter (Goldie et al. 2024, section 4 and algorithm 1).

        u = scale o_0 exp(scale o_1) + explores scale o_2 eps,   p <- p - (u - mean over all scalars of u)

    with o the network's outputs and eps standard normal. Its inputs are the parameter, signs and log sizes of six
    momenta and of the gradient, each over its root mean square in the tensor, and four positions: progress of training,
    depth of the layer, progress of the epochs, dormancy of the unit. Gradients are clipped to `max_norm` network by
    network. The mean ties the networks together: its subtraction keeps the sum of all parameters.

    Published weights are read by `from_vector`. A random start moves nothing, for its output layer is zero.

    Attributes:
      gru, width: units of the recurrent layer and of the two layers that read it.
      scale: of outputs.
      max_norm: of a network's gradient.
    """

    gru: int = 8
    width: int = 16
    scale: float = 1e-3
    max_norm: float = 0.5
    still = True

    def init(self, key: PRNGKeyArray) -> OpenNetwork:
        """Untrained meta-parameters."""
        return initial(self.gru, self.width, key)

    def start(self, params: Params) -> OpenState:

        def nothing(width: int) -> Params:
            return jax.tree.map(lambda p: jnp.zeros((*p.shape, width), p.dtype), params)

        return OpenState(nothing(len(DECAYS)), nothing(self.gru))

    def update(self, theta, gradient, state, params, senses, learning_rate) -> tuple[Params, OpenState]:
        """New parameters and state; see `LearnedOptimizer`. Its steps have a size of their own: no learning rate."""
        del learning_rate
        u, state = self.proposed(theta, gradient, state, params, senses)
        mean = sum(jnp.sum(x) for x in jax.tree.leaves(u)) / size(u)
        return jax.tree.map(lambda p, u: p - (u - mean), params, u), state

    def proposed(
        self, theta: OpenNetwork, gradient: Params, state: OpenState, params: Params, senses: Senses
    ) -> tuple[Params, OpenState]:
        """u, before its mean is subtracted, and the new state."""
        gradient, params, activations = jax.lax.stop_gradient((gradient, params, senses.activations))
        gradient = clip_by_network(gradient, senses.sites, self.max_norm)
        momenta = jax.tree.map(_momenta, gradient, state.momenta)
        leaves, tree = jax.tree.flatten(params)
        columns = (jax.tree.leaves(t) for t in (gradient, momenta, activations))
        seen = [
            features(p, g, m, a, senses, site).reshape(-1, FEATURES)
            for p, g, m, a, site in zip(leaves, *columns, senses.sites, strict=True)
        ]
        # All tensors in one call: an agent has a dozen of them, and most are small.
        carry = jnp.concatenate([c.reshape(-1, self.gru) for c in jax.tree.leaves(state.carry)])
        out, carry = theta(jnp.concatenate(seen), carry)
        noise = jax.tree.leaves(senses.noise)
        u = [
            self._u(o, n if site.explores else None)
            for o, n, site in zip(split_like(out, leaves), noise, senses.sites, strict=True)
        ]
        return jax.tree.unflatten(tree, u), OpenState(momenta, jax.tree.unflatten(tree, split_like(carry, leaves)))

    def _u(self, out: Float[Array, "... 3"], noise: Array | None) -> Array:
        u = self.scale * out[..., 0] * jnp.exp(self.scale * out[..., 1])
        return u if noise is None else u + self.scale * out[..., 2] * noise


def clip_by_network(gradient: Params, sites: tuple[Site, ...], max_norm: float) -> Params:
    """Every network's gradient scaled to `max_norm` where it exceeds that."""
    leaves, tree = jax.tree.flatten(gradient)
    networks = [site.network for site in sites]
    clipped: dict[int, Array] = {}
    for network in sorted(set(networks)):
        mine = [i for i, name in enumerate(networks) if name == network]
        clipped |= dict(zip(mine, clip_by_global_norm([leaves[i] for i in mine], max_norm), strict=True))
    return jax.tree.unflatten(tree, [clipped[i] for i in range(len(leaves))])


def _momenta(gradient: Array, momenta: Float[Array, "... 6"]) -> Float[Array, "... 6"]:
    decays = jnp.asarray(DECAYS, gradient.dtype)  # 1 - decay in the numbers' own precision, as published
    return decays * momenta + (1 - decays) * gradient[..., None]


def features(
    param: Array, gradient: Array, momenta: Array, activation: Array, senses: Senses, site: Site
) -> Float[Array, "... 19"]:
    """What the network sees of every scalar of one tensor."""

    def log(x: Array) -> Array:
        return jnp.log(jnp.abs(x) + LOG_EPS)

    moving = [jnp.sign(momenta), log(momenta), jnp.sign(gradient)[..., None], log(gradient)[..., None]]
    seen = jnp.concatenate([param[..., None], *moving], axis=-1)
    over = tuple(range(param.ndim))
    seen = seen * jax.lax.rsqrt(SECOND_MOMENT_EPS + jnp.mean(seen**2, axis=over, keepdims=True))
    there = (senses.training, site.depth, senses.batch, dormancy(activation))
    return jnp.concatenate([seen, *(jnp.broadcast_to(x, param.shape)[..., None] for x in there)], axis=-1)


def dormancy(activation: Float[Array, " units"]) -> Float[Array, " units"]:
    """A unit's share of its layer's activation, times how many units there are: 1 where all are alike."""
    activation = activation + DORMANCY_EPS
    return activation / jnp.sum(jnp.abs(activation)) * activation.shape[0]


def from_vector(vector: Float[np.ndarray, " n"]) -> tuple[Open, OpenNetwork]:
    """Settings and meta-parameters of a published vector.

    Raises:
      ValueError: it has the size of none of them, or is not of finite floating point numbers.
    """
    sizes = {size(zeros(gru, width)): Open(gru, width) for gru, width in PUBLISHED}
    vector = np.asarray(vector)
    if vector.ndim != 1 or vector.size not in sizes:
        raise ValueError(f"expected a vector of {' or '.join(map(str, sizes))} numbers, found shape {vector.shape}")
    if not np.issubdtype(vector.dtype, np.floating) or not np.all(np.isfinite(vector)):
        raise ValueError(f"expected finite floating point numbers, found {vector.dtype} with others among them")
    optimizer = sizes[vector.size]
    leaves, tree = jax.tree.flatten(zeros(optimizer.gru, optimizer.width))
    parts = np.split(vector.astype(np.float32), np.cumsum([leaf.size for leaf in leaves])[:-1])
    arrays = [jnp.asarray(part.reshape(leaf.shape)) for part, leaf in zip(parts, leaves, strict=True)]
    return optimizer, jax.tree.unflatten(tree, arrays)
