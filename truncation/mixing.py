"""Mixing estimators of the same gradient by how noisy each of them is."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.lives import on_one
from truncation.problem import Estimate, GradientEstimator, InnerProblem, Theta
from truncation.weighing import products


class Mixed(NamedTuple):
    """What is remembered.

    Attributes:
      parts: the states of the estimators.
      gram: moving sum of the products ĝ_i · ĝ_j.
      mass: of the weights in it.
    """

    parts: tuple[Any, ...]
    gram: Float[Array, "n n"]
    mass: Float[Array, ""]


@dataclass(frozen=True)
class InverseVariance:
    """The inverse-variance combination of independent unbiased estimators.

        ĝ = Σ_i w_i ĝ_i,   w_i ∝ 1 / V_i,   V_i = E ‖ĝ_i‖² - E ĝ_i · ĝ_j  (j ≠ i)

    Products of different estimators have the expectation ‖G‖², whatever their noise: so the variances are known without
    repeating an estimate, also while theta moves. They are averaged over *past* estimates, which keeps the weights
    independent of what they weigh: unbiased if all parts are (weights from the same samples, as in total propagation,
    Parmas et al. 2018, are not). Only for unbiased parts: a biased one with little noise would get all the weight; for
    those there is `WienerTruncation`.

    Cost and memory: those of all parts together. The loss and the metrics are the means over parts.

    Attributes:
      parts: at least two estimators, with states and randomness of their own.
      memory: factor of the moving averages.
    """

    parts: tuple[GradientEstimator, ...]
    memory: float = 0.95

    def __post_init__(self):
        if len(self.parts) < 2:
            raise ValueError(f"parts={self.parts}: at least 2 estimators can be mixed")
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory={self.memory} is not in [0, 1)")

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Mixed:
        """The states of all parts; the first estimate weighs them equally."""
        states = tuple(p.init(problem, theta, jax.random.fold_in(key, n)) for n, p in enumerate(self.parts))
        dtype = jax.eval_shape(products, jax.tree.map(lambda x: x[None], theta)).dtype
        return Mixed(states, jnp.zeros((len(self.parts),) * 2, dtype), jnp.zeros((), dtype))

    def estimate(self, problem: InnerProblem, theta: Theta, state: Mixed, key: PRNGKeyArray) -> tuple[Estimate, Mixed]:
        """One estimate of every part, weighted by the variances of the past."""
        estimates, states = zip(
            *(
                part.estimate(problem, theta, own, jax.random.fold_in(key, n))
                for n, (part, own) in enumerate(zip(self.parts, state.parts, strict=True))
            ),
            strict=True,
        )
        gradient, gram, mass = on_one(self._mixed, state._replace(parts=()), [e.gradient for e in estimates])
        shared = set.intersection(*[set(e.metrics) for e in estimates])
        means = [(e.loss, {name: e.metrics[name] for name in shared}) for e in estimates]
        loss, metrics = jax.tree.map(lambda *x: sum(x) / len(x), *means)
        return Estimate(gradient, loss, metrics), Mixed(states, gram, mass)

    def _mixed(self, state: Mixed, gradients: list[Theta]) -> tuple[Theta, Array, Array]:
        """The combination, and what is known about the parts after it."""
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *gradients)
        weights = self.weights(state)
        gradient = jax.tree.map(lambda x: jnp.tensordot(weights.astype(x.dtype), x, axes=1), stacked)
        gram = self.memory * state.gram + (1 - self.memory) * products(stacked)
        return gradient, gram, self.memory * state.mass + (1 - self.memory)

    def weights(self, state: Mixed) -> Float[Array, " n"]:
        """Of the parts in the next estimate."""
        count = len(self.parts)
        signal = (jnp.sum(state.gram) - jnp.trace(state.gram)) / (count * (count - 1))
        variance = jnp.maximum(jnp.diag(state.gram) - signal, 0)
        # Variances are estimates and may come out as nought: no part is trusted more than a hundred times another.
        floor = 1e-2 * jnp.sum(variance)
        precision = jnp.where(floor > 0, 1 / jnp.where(floor > 0, jnp.maximum(variance, floor), 1), 1)
        return precision / jnp.sum(precision)
