"""LPG's network without flax: the same theta, the same numbers, for files that must do without."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learned_rl.types import Theta


@dataclass(frozen=True)
class TargetNetwork:
    """What `learned_rl.rules.lpg` computes with flax. Inputs `[T, n]` of one stream -> `(pi_hat [T], y_hat [T, m])`.

        c = sigmoid(f) c + sigmoid(i) tanh(g),   h = sigmoid(o) tanh(c)      with each gate x W + h U + b

    backwards in time, begun anew where an episode ended.
    """

    hidden: int
    predictions: int

    def apply(
        self,
        variables: dict[str, Theta],
        inputs: Float[Array, "T n"],
        y: Float[Array, "T m"],
        next_y: Float[Array, "T m"],
        last: Bool[Array, " T"],
    ) -> tuple[Float[Array, " T"], Float[Array, "T m"]]:
        net = variables["params"]

        def embed(y: Float[Array, "T m"]) -> Float[Array, "T 1"]:
            return dense(net["embed_1"], jax.nn.relu(dense(net["embed_0"], y)))

        x = jnp.concatenate([inputs, embed(y), embed(next_y)], axis=-1)
        cell, zero = net["lstm"], jnp.zeros(self.hidden, x.dtype)

        def step(carry, inputs):
            x_t, last_t = inputs
            c, h = jax.tree.map(lambda s: jnp.where(last_t, 0.0, s), carry)
            i, f, g, o = (x_t @ cell[f"i{k}"]["kernel"] + dense(cell[f"h{k}"], h) for k in "ifgo")
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (c, h), h

        hidden = jax.lax.scan(step, (zero, zero), (x, last), reverse=True)[1]
        return dense(net["policy"], hidden)[..., 0], dense(net["prediction"], hidden)


def dense(layer: Theta, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
    """x W + b."""
    return x @ layer["kernel"] + layer["bias"]
