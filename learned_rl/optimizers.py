"""Inner optimizers that can be differentiated through.

Two things make a meta-gradient through Adam wrong or NaN, and both are handled here and nowhere else:

* d sqrt(v)/dv is infinite at v = 0, which is where every parameter starts that has not yet had a gradient;
* the path through the second moment multiplies meta-gradients by g / v^{3/2}, which explodes for small gradients.

So the denominator carries no meta-gradient (as in DiscoRL's inner Adam, Oh et al. 2025). Forward, it is Adam exactly.

The learning rate is an argument of `update`, not a setting: it may be learned.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from learned_rl.types import Params


class InnerOptimizer(Protocol):
    """What turns a gradient into new parameters; settings in the fields, moments in the state."""

    def init(self, params: Params) -> PyTree: ...

    def update(
        self, gradient: Params, state: PyTree, params: Params, learning_rate: Float[Array, ""] | float
    ) -> tuple[Params, PyTree]: ...


@dataclass(frozen=True)
class Sgd:
    """p <- p - learning_rate g, after clipping the global norm of g to `max_norm` (0: no clipping)."""

    max_norm: float = 0.0

    def init(self, params: Params) -> tuple[()]:
        return ()

    def update(self, gradient, state, params, learning_rate):
        gradient = clip_by_global_norm(gradient, self.max_norm)
        return jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient), state


class AdamState(NamedTuple):
    updates: Int[Array, ""]  # not `count`: that is a method of every tuple
    first: Params
    second: Params


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1); the denominator carries no meta-gradient (see the module)."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-5
    max_norm: float = 0.5

    def init(self, params: Params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(self, gradient, state, params, learning_rate):
        (mean, deviation), state = self.moments(gradient, state)
        return jax.tree.map(lambda p, m, s: p - learning_rate * m / s, params, mean, deviation), state

    def moments(self, gradient: Params, state: AdamState) -> tuple[tuple[Params, Params], AdamState]:
        """Numerator and denominator of a step, corrected for their start at zero, and the state after it."""
        gradient = clip_by_global_norm(gradient, self.max_norm)
        count = state.updates + 1
        first = jax.tree.map(lambda m, g: self.b1 * m + (1 - self.b1) * g, state.first, gradient)
        second = jax.tree.map(
            lambda v, g: self.b2 * v + (1 - self.b2) * jax.lax.stop_gradient(g) ** 2, state.second, gradient
        )
        bias1, bias2 = 1 - self.b1**count, 1 - self.b2**count

        mean = jax.tree.map(lambda m: m / bias1, first)
        deviation = jax.tree.map(lambda v: jnp.sqrt(v / bias2) + self.eps, second)
        return (mean, deviation), AdamState(count, first, second)


@dataclass(frozen=True)
class ElementClippedAdam:
    """Adam whose steps, before the learning rate, are clipped to `max_step` element by element (DiscoRL's)."""

    max_step: float = 1.0
    adam: Adam = Adam(eps=1e-8, max_norm=0.0)

    def init(self, params: Params) -> AdamState:
        return self.adam.init(params)

    def update(self, gradient, state, params, learning_rate):
        (mean, deviation), state = self.adam.moments(gradient, state)

        def step(p, m, s):
            return p - learning_rate * jnp.clip(m / s, -self.max_step, self.max_step)

        return jax.tree.map(step, params, mean, deviation), state


def clip_by_global_norm(gradient: Params, max_norm: float) -> Params:
    """Scales to `max_norm` where the norm exceeds it; 0 leaves it alone. The factor carries no meta-gradient."""
    if not max_norm:
        return gradient
    square = sum(jnp.sum(jax.lax.stop_gradient(g) ** 2) for g in jax.tree.leaves(gradient))
    scale = jnp.minimum(1.0, max_norm * jax.lax.rsqrt(jnp.maximum(square, 1e-16)))
    return jax.tree.map(lambda g: g * scale, gradient)
