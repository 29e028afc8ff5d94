"""The network of OPEN, one step for every scalar parameter alike: a gated recurrent unit, then two layers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

FEATURES = 19
OUTPUTS = 3
LAYER_NORM_EPS = 1e-6


class Dense(NamedTuple):
    """x @ kernel + bias; fields in the order of the published vectors."""

    bias: Float[Array, " out"]
    kernel: Float[Array, "in out"]

    def __call__(self, x: Float[Array, "n in"]) -> Float[Array, "n out"]:
        return x @ self.kernel + self.bias


class Norm(NamedTuple):
    """Layer norm over the channels; variance as E[x^2] - E[x]^2, not below 0."""

    bias: Float[Array, " width"]
    scale: Float[Array, " width"]

    def __call__(self, x: Float[Array, "n width"]) -> Float[Array, "n width"]:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.maximum(jnp.mean(x**2, axis=-1, keepdims=True) - mean**2, 0)
        return (x - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPS) * self.scale + self.bias


class OpenNetwork(NamedTuple):
    """Meta-parameters, in the order of the published vectors (theirs is alphabetical).

        r = sigmoid(x W_r + b_r + h U_r),  z = sigmoid(x W_z + b_z + h U_z)
        n = tanh(x W_n + b_n + r (h U_n + c_n)),  h' = (1 - z) n + z h
        o = out(relu(norm(second(relu(norm(first(h')))))))

    Attributes:
      carry_candidate, carry_reset, carry_update: U_n (with its bias c_n), U_r, U_z.
      candidate, reset, update: W_n, W_r, W_z with their biases.
      first, first_norm, second, second_norm, out: the layers that read the new state.
    """

    carry_candidate: Dense
    carry_reset: Float[Array, "gru gru"]
    carry_update: Float[Array, "gru gru"]
    candidate: Dense
    reset: Dense
    update: Dense
    first: Dense
    first_norm: Norm
    second: Dense
    second_norm: Norm
    out: Dense

    def __call__(
        self, x: Float[Array, "n 19"], carry: Float[Array, "n gru"]
    ) -> tuple[Float[Array, "n 3"], Float[Array, "n gru"]]:
        """The three numbers that make an update of each scalar, and the new recurrent states."""
        r = jax.nn.sigmoid(self.reset(x) + carry @ self.carry_reset)
        z = jax.nn.sigmoid(self.update(x) + carry @ self.carry_update)
        n = jnp.tanh(self.candidate(x) + r * self.carry_candidate(carry))
        carry = (1 - z) * n + z * carry
        hidden = jax.nn.relu(self.first_norm(self.first(carry)))
        hidden = jax.nn.relu(self.second_norm(self.second(hidden)))
        return self.out(hidden), carry


def zeros(gru: int, width: int) -> OpenNetwork:
    """A network of zeros: the shapes of its arrays."""

    def dense(inward: int, outward: int) -> Dense:
        return Dense(jnp.zeros(outward), jnp.zeros((inward, outward)))

    def norm() -> Norm:
        return Norm(jnp.zeros(width), jnp.zeros(width))

    return OpenNetwork(
        dense(gru, gru),
        jnp.zeros((gru, gru)),
        jnp.zeros((gru, gru)),
        dense(FEATURES, gru),
        dense(FEATURES, gru),
        dense(FEATURES, gru),
        dense(gru, width),
        norm(),
        dense(width, width),
        norm(),
        dense(width, OUTPUTS),
    )


def initial(gru: int, width: int, key: PRNGKeyArray) -> OpenNetwork:
    """Random inside (kernels normal with variance 1 / fan-in), zero at the output: it moves nothing at first."""
    leaves, tree = jax.tree.flatten(zeros(gru, width))
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(k, x.shape) / x.shape[0] ** 0.5 if x.ndim == 2 else x
        for x, k in zip(leaves, keys, strict=True)
    ]
    network = jax.tree.unflatten(tree, drawn)
    norm = Norm(jnp.zeros(width), jnp.ones(width))
    return network._replace(first_norm=norm, second_norm=norm, out=jax.tree.map(jnp.zeros_like, network.out))
