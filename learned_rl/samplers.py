"""What a task family draws once a life, as values: a sampler is a setting, and says what it can draw.

A `range` is JSON, to be kept beside a rule and compared (`learned_rl.ranges`): `{"from": low, "below": high}`,
`{"from": low, "to": high}` with both ends included, or `{"is": value}`.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray


@runtime_checkable
class Sampler(Protocol):
    """Draws the value of one parameter."""

    @property
    def range(self) -> dict[str, Any]: ...
    def __call__(self, key: PRNGKeyArray) -> Array: ...


@dataclass(frozen=True)
class Constant:
    """Always `value`: to switch an environment's option on."""

    value: bool | int | float

    @property
    def range(self) -> dict[str, Any]:
        return {"is": self.value}

    def __call__(self, key: PRNGKeyArray) -> Array:
        return jnp.asarray(self.value)


@dataclass(frozen=True)
class Uniform:
    """Uniform in [low, high)."""

    low: float
    high: float

    @property
    def range(self) -> dict[str, Any]:
        return {"from": self.low, "below": self.high}

    def __call__(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.uniform(key, (), minval=self.low, maxval=self.high)


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Log-uniform in [low, high): scales, such as masses, are drawn by factors."""

    def __call__(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.exp(jax.random.uniform(key, (), minval=jnp.log(self.low), maxval=jnp.log(self.high)))


@dataclass(frozen=True)
class IntegersIn:
    """Uniform over the integers low ... high, both included."""

    low: int
    high: int

    @property
    def range(self) -> dict[str, Any]:
        return {"from": self.low, "to": self.high}

    def __call__(self, key: PRNGKeyArray) -> Num[Array, ""]:
        return jax.random.randint(key, (), self.low, self.high + 1)


@dataclass(frozen=True)
class SpikeAt:
    """A vector of ones, `size` long, with `value` at a uniformly drawn place: which arm, or which chain, pays best."""

    size: int
    value: float

    @property
    def range(self) -> dict[str, Any]:
        return {"is": f"{self.value} at one of {self.size} places, 1 at the others"}

    def __call__(self, key: PRNGKeyArray) -> Float[Array, " size"]:
        return jnp.ones(self.size).at[jax.random.randint(key, (), 0, self.size)].set(self.value)
