"""Learned optimizers as `optax` transformations."""

from typing import Any

import jax
import optax

from learned_rl.export.optimizers import start, step
from learned_rl.learned_optimizers.protocol import LearnedOptimizer, Site
from learned_rl.types import Theta


def transform(
    optimizer: LearnedOptimizer, theta: Theta, sites: tuple[Site, ...] | None = None, learning_rate: float = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """An optimizer for `optax.chain`, flax's `TrainState` and whatever else takes one.

    Its update needs the parameters, and takes `activations`, `training`, `batch` and `key` as extra arguments, all
    optional; see `step` for what they are and what stands in for them. Its updates are added to the parameters.
    """

    def update(updates: Any, state: Any, params: Any = None, **senses: Any) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("a learned optimizer sees the parameters: call update(gradient, state, params)")
        known = {name: senses[name] for name in ("activations", "training", "batch", "key") if name in senses}
        more = {"sites": sites, "learning_rate": learning_rate}
        new, state = step(optimizer, theta, updates, state, params, **known, **more)
        return jax.tree.map(lambda n, p: n - p, new, params), state

    return optax.GradientTransformationExtraArgs(lambda params: start(optimizer, theta, params), update)
