"""Recurrent optimizers that see gradients and nothing else: a plain one, and Optim4RL."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import linear, mlp, start_mlp
from learned_rl.learned_optimizers.protocol import size, split_like
from learned_rl.memories import GRU
from learned_rl.types import Params, Theta

LOG_RANGE = 10.0  # p of Andrychowicz et al. 2016, appendix A


@dataclass(frozen=True)
class Recurrent:
    """No features, no forms: one recurrent network for every number alike, the baseline of learned optimizers.

        p <- p - learning_rate (W GRU(x) + b),    x = (log|g| / 10, sign g)  if |g| >= exp(-10),  else (-1, exp(10) g)

    Andrychowicz et al. (2016, section 2.1 and, for x, appendix A), with a gated recurrent unit for their two LSTMs. W
    and b start at zero. The state is of all numbers of all tensors, in the order of `jax.tree.leaves`.

    Attributes:
      hidden: units.
    """

    hidden: int = 8
    still = True

    def init(self, key: PRNGKeyArray) -> Theta:
        gru = GRU(self.hidden).init(key, 2)
        return {"gru": gru, "out": {"w": jnp.zeros((self.hidden, 1)), "b": jnp.zeros(1)}}

    def start(self, params: Params) -> Float[Array, "n hidden"]:
        return jnp.zeros((size(params), self.hidden))

    def update(self, theta, gradient, state, params, senses, learning_rate) -> tuple[Params, Array]:
        state, said = GRU(self.hidden).step(theta["gru"], state, preprocessed(_column(gradient)))
        return _moved(params, learning_rate * linear(theta["out"], said)), state


class Optim4RLState(NamedTuple):
    """Recurrent states of all numbers of all tensors, in the order of `jax.tree.leaves`."""

    first: Float[Array, "n hidden"]
    second: Float[Array, "n hidden"]


@dataclass(frozen=True)
class Optim4RL:
    """Learned moments in the form of Adam (Lan et al. 2023, "Learning to Optimize for Reinforcement Learning").

        m = sign(g) exp(o_1),  v = exp(o_2),    o_1 = head_1(GRU_1(g)),  o_2 = head_2(GRU_2(g^2))
        p <- p - learning_rate m / sqrt(v + eps)

    as in their section 4.3 and code (sail-sg/optim4rl): the sign of a step is never the network's. A `Residual` starts
    it as Adam or SGD; alone it starts near the descent along signs.

    Attributes:
      hidden: units of each recurrent network.
      width: of a hidden layer of the heads (relu); 0 for none, as in the configurations that were published.
    """

    hidden: int = 8
    width: int = 16
    eps: float = 1e-8
    still = False

    def init(self, key: PRNGKeyArray) -> Theta:
        return {name: self._part(k) for name, k in zip(("first", "second"), jax.random.split(key), strict=True)}

    def _part(self, key: PRNGKeyArray) -> Theta:
        key_gru, key_head = jax.random.split(key)
        widths = (self.hidden, self.width, 1) if self.width else (self.hidden, 1)
        return {"gru": GRU(self.hidden).init(key_gru, 1), "head": start_mlp(key_head, *widths)}

    def start(self, params: Params) -> Optim4RLState:
        nothing = jnp.zeros((size(params), self.hidden))
        return Optim4RLState(nothing, nothing)

    def update(self, theta, gradient, state, params, senses, learning_rate) -> tuple[Params, Optim4RLState]:
        g = _column(gradient)
        first, o_1 = self._said(theta["first"], state.first, g)
        second, o_2 = self._said(theta["second"], state.second, g**2)
        step = jnp.sign(g) * jnp.exp(o_1) * jax.lax.rsqrt(jnp.exp(o_2) + self.eps)
        return _moved(params, learning_rate * step), Optim4RLState(first, second)

    def _said(self, theta: Theta, state: Array, x: Float[Array, "n 1"]) -> tuple[Array, Float[Array, "n 1"]]:
        state, said = GRU(self.hidden).step(theta["gru"], state, x)
        return state, mlp(theta["head"], said)


def preprocessed(g: Float[Array, "n 1"]) -> Float[Array, "n 2"]:
    """Size and sign of gradients of all magnitudes, in [-1, 1] but for those above exp(10)."""
    small = jnp.exp(-LOG_RANGE)
    log = jnp.log(jnp.maximum(jnp.abs(g), small)) / LOG_RANGE
    return jnp.concatenate([log, jnp.clip(g / small, -1, 1)], axis=-1)


def _column(gradient: Params) -> Float[Array, "n 1"]:
    """All numbers of all tensors, as data."""
    return jax.lax.stop_gradient(jnp.concatenate([g.reshape(-1, 1) for g in jax.tree.leaves(gradient)]))


def _moved(params: Params, step: Float[Array, "n 1"]) -> Any:
    leaves, tree = jax.tree.flatten(params)
    steps = split_like(step[:, 0], leaves)
    return jax.tree.unflatten(tree, [p - s for p, s in zip(leaves, steps, strict=True)])
