"""A moving average of mean and square, to bring numbers of any size to a common one."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class MovingAverage(NamedTuple):
    """Not yet corrected for its start at zero; `remaining` is the weight that the start still has.

        m1 <- decay m1 + (1 - decay) mean(x),   m2 <- decay m2 + (1 - decay) mean(x^2),   remaining <- decay remaining

    Attributes:
      first: average of the mean.
      second: average of the mean square.
      remaining: product of all decays so far.
    """

    first: Float[Array, ""]
    second: Float[Array, ""]
    remaining: Float[Array, ""]

    @staticmethod
    def start() -> "MovingAverage":
        return MovingAverage(jnp.zeros(()), jnp.zeros(()), jnp.ones(()))

    def observe(self, x: Float[Array, "..."], decay: float) -> "MovingAverage":
        """The average after `x`, of which every entry counts alike."""
        return MovingAverage(
            decay * self.first + (1 - decay) * jnp.mean(x),
            decay * self.second + (1 - decay) * jnp.mean(x**2),
            decay * self.remaining,
        )

    def standardise(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """x less the average, in units of the standard deviation."""
        return (x - self._mean) / self._deviation

    def rescale(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """x in units of the standard deviation."""
        return x / self._deviation

    @property
    def _mean(self) -> Float[Array, ""]:
        return self.first / (1 - self.remaining)

    @property
    def _deviation(self) -> Float[Array, ""]:
        variance = self.second / (1 - self.remaining) - self._mean**2
        # Both constants as published. Of one number, the variance is rounding: what comes out then is noise.
        return jnp.sqrt(jnp.maximum(variance, 0.0) + 1e-12) + 1e-6
