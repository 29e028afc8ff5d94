"""How credit is weighted by lag: from segment t back to the use of θ in segment τ.

A `Crediting` says, for one window of one life, which matrices its adjoint meets (`lags`), how its rows are added up and
how the losses of its segments are weighted. With L_t the loss of segment t,

    ĝ = Σ_t v_t Σ_{τ≤t} w(t, τ) dL_t/dθ_τ

and a crediting is unbiased for the gradient of the window iff E w = 1 everywhere and v = 1/window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.lags import Transfers, cut, shifted, unmixed

Vector = Float[Array, " n"] | np.ndarray


class Credit(NamedTuple):
    """Weights of one window.

    Attributes:
      transfers: T_s, what the adjoint meets in front of every segment.
      rows: how the rows are added up.
      losses: v, of the segments.
    """

    transfers: Transfers
    rows: Vector
    losses: Vector


class Crediting(Protocol):
    """Draws the weights of one window of one life."""

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit: ...


@dataclass(frozen=True)
class Windowed:
    """w = 1 inside blocks of `length` segments, else 0: hard truncation. One backward pass."""

    length: int

    def __post_init__(self):
        _at_least_one("length", self.length)

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        return Credit(cut(window, self.length), np.ones(1), _even(window))


@dataclass(frozen=True)
class Sliding:
    """w = 1{t - τ < length}: every loss reaches equally far back. `length` backward passes."""

    length: int

    def __post_init__(self):
        _at_least_one("length", self.length)

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        lags = min(self.length, window)
        return Credit(shifted(window, lags), np.ones(lags), _even(window))


@dataclass(frozen=True)
class Geometric:
    """w = decay^(t - τ): the adjoint is multiplied by `decay` at every boundary. One backward pass."""

    decay: float

    def __post_init__(self):
        _chance("decay", self.decay, 0 <= self.decay <= 1, "[0, 1]")

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        transfers = self.decay * unmixed(window)
        transfers[0] = 1
        return Credit(transfers, np.ones(1), _even(window))


@dataclass(frozen=True)
class Averaged:
    """v_k ∝ decay^k, w = 1: a weighted average of the gradients through 1, 2, ..., window segments.

    The mixing over truncation lengths of Bonnet et al. 2021, as far as their abstract tells: the loss after k updates
    sees exactly k of them. Not unbiased unless `decay` is 1: late losses count less. One backward pass.
    """

    decay: float

    def __post_init__(self):
        _chance("decay", self.decay, 0 < self.decay <= 1, "(0, 1]")

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        weights = self.decay ** np.arange(window)
        return Credit(unmixed(window), np.ones(1), weights / weights.sum())


@dataclass(frozen=True)
class AnticipatedReweighted:
    """ARTBP (Tallec & Ollivier 2017): cut each boundary with probability c, and divide what passes by 1 - c.

    Unbiased: E Π 1{kept} / (1 - c) = 1 for every lag. The variance is finite for lifetimes of any length only where
    ρ(J)² < 1 - c. Expected length of a piece 1 / c; as one program all of the window is run, so what is saved is the
    variance of long lags and not time. One backward pass.
    """

    stop: float

    def __post_init__(self):
        _chance("stop", self.stop, 0 <= self.stop < 1, "[0, 1)")

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        passes = jax.random.bernoulli(key, 1 - self.stop, (window,)) / (1 - self.stop)
        return Credit(passes.at[0].set(1)[:, None, None], np.ones(1), _even(window))


@dataclass(frozen=True)
class SingleSample:
    """Randomized telescope with one rung (Beatson & Adams 2019): Δ_N / q_N, N ~ q.

    Δ_l is the credit of lags from rung l - 1 up to rung l of the ladder. Unbiased iff the last rung reaches over the
    window. Variance Σ ‖Δ_l‖² / q_l - ‖G‖². Each life draws its own N; all lags are carried (as many backward passes as
    the last rung), so that what is spent is not E[cost] but the cost of the last rung.
    """

    ladder: tuple[int, ...]
    chances: tuple[float, ...]

    def __post_init__(self):
        _ladder(self.ladder, self.chances)
        _chance("sum(chances)", sum(self.chances), abs(sum(self.chances) - 1) < 1e-6, "1")

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        chances = jnp.array(self.chances)
        rung = jax.random.categorical(key, jnp.log(chances))
        return _telescope(self.ladder, window, jnp.where(jnp.arange(len(chances)) == rung, 1 / chances, 0))


@dataclass(frozen=True)
class RussianRoulette:
    """Randomized telescope of all rungs up to a random one (Beatson & Adams 2019): Σ_{l≤N} Δ_l / P(N >= l).

    Unbiased iff the last rung reaches over the window. `chances` are those of reaching each rung, P(N >= l): 1 for the
    first, never increasing. Cost and draws as `SingleSample`.
    """

    ladder: tuple[int, ...]
    chances: tuple[float, ...]

    def __post_init__(self):
        _ladder(self.ladder, self.chances)
        falls = self.chances[0] == 1 and all(a >= b for a, b in zip(self.chances, self.chances[1:], strict=False))
        _chance("chances", self.chances, falls, "1 and never increasing")

    def __call__(self, window: int, key: PRNGKeyArray) -> Credit:
        chances = jnp.array(self.chances)
        reached = jax.random.uniform(key, dtype=chances.dtype) < chances
        return _telescope(self.ladder, window, jnp.where(reached, 1 / chances, 0))


def single_sample_chances(squares: Sequence[float], costs: Sequence[float]) -> tuple[float, ...]:
    """q ∝ √(E ‖Δ_l‖² / C_l), the least variance times cost."""
    chances = np.sqrt(np.asarray(squares) / np.asarray(costs))
    return tuple((chances / chances.sum()).tolist())


def roulette_chances(squares: Sequence[float], costs: Sequence[float]) -> tuple[float, ...]:
    """P(N >= l) ∝ √(E ‖Δ_l‖² / (C_l - C_{l-1})), made monotone."""
    chances = np.minimum.accumulate(np.sqrt(np.asarray(squares) / np.diff(costs, prepend=0)))
    return tuple((chances / chances[0]).tolist())


def _telescope(ladder: tuple[int, ...], window: int, rungs: Float[Array, " rungs"]) -> Credit:
    lags = min(ladder[-1], window)
    return Credit(shifted(window, lags), rungs[np.searchsorted(ladder, np.arange(lags), side="right")], _even(window))


def _even(window: int) -> np.ndarray:
    return np.full(window, 1 / window)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value}: at least 1 segment is credited")


def _chance(name: str, value: object, legal: bool, allowed: str) -> None:
    if not legal:
        raise ValueError(f"{name}={value} is not {'' if allowed[0] == '1' else 'in '}{allowed}")


def _ladder(ladder: tuple[int, ...], chances: tuple[float, ...]) -> None:
    if not ladder or list(ladder) != sorted(set(ladder)) or ladder[0] < 1:
        raise ValueError(f"ladder={ladder} is not an increasing sequence of lags from 1 on")
    if len(chances) != len(ladder) or not all(0 < chance <= 1 for chance in chances):
        raise ValueError(f"chances={chances} are not one number in (0, 1] for each of the {len(ladder)} rungs")
