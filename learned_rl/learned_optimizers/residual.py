"""A learned correction of a hand-designed optimizer."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.protocol import LearnedOptimizer
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.types import Params, Theta


class ResidualState(NamedTuple):
    base: PyTree
    learned: PyTree


@dataclass(frozen=True)
class Residual:
    """The step of `base` and `gain` times the step of `learned`: untrained, it is `base`: nothing is added.

    The gain is learned, from 1 if the untrained `learned` is still, else from 0. Each sees the gradient as it is, and
    clips it as it would alone. theta = {"gain": the gain, "learned": the learned optimizer's own}.
    """

    base: InnerOptimizer = Adam()
    learned: LearnedOptimizer = Open()
    still = False

    def init(self, key: PRNGKeyArray) -> Theta:
        return {"gain": jnp.full((), self.learned.still, jnp.float32), "learned": self.learned.init(key)}

    def start(self, params: Params) -> ResidualState:
        return ResidualState(self.base.init(params), self.learned.start(params))

    def update(self, theta, gradient, state, params, senses, learning_rate) -> tuple[Params, ResidualState]:
        new, base = self.base.update(gradient, state.base, params, learning_rate)
        moved, learned = self.learned.update(theta["learned"], gradient, state.learned, params, senses, learning_rate)
        new = jax.tree.map(lambda b, m, p: b + theta["gain"] * (m - p), new, moved, params)
        return new, ResidualState(base, learned)
