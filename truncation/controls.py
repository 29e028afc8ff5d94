"""Where the guess of a control variate comes from: a derivative of the window, or estimates of the past."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncation.noise import gaussian
from truncation.particles import Particles, both, mirrored, side_by_side
from truncation.problem import Life, Segment, Theta

Slopes: TypeAlias = tuple[Theta, ...]  # d(mean loss of the window)/d(theta of this part of it), by part


class Control(Protocol):
    """A guess of the gradient that is independent of the noise of the pair that it corrects."""

    @property
    def remat(self) -> bool:
        """Whether what is differentiated is recomputed rather than stored."""
        ...

    def particles(self, differentiate: bool) -> Particles:
        """The pair, and whatever else has to live for the guess."""
        ...

    def blank(self, zeros: Theta) -> Any:
        """What is remembered before the first estimate; `zeros` has a leading axis of teams."""
        ...

    def guesses(
        self, memory: Any, slopes: Any, shares: Float[Array, " parts"], team: Int[Array, ""]
    ) -> tuple[Slopes, Slopes]:
        """The guess for a pair of this team, and that of the team before it, whose β is fitted on the pair."""
        ...

    def learn(self, memory: Any, plain: tuple[Theta, Float[Array, " teams"]]) -> Any:
        """What is remembered after an estimate, given the mean plain estimates by team and the pairs behind them."""
        ...


@dataclass(frozen=True)
class WindowGradient:
    """p = d(mean loss of the window)/dθ by backpropagation through the window, on a life of the pair's own.

    Every pair has a third particle, with the pair's task and random numbers, but without its noise: so p is independent
    of the noise, and as close to the pair's own gradient as can be. It lives with theta. With `smooth` it lives with
    theta + ε', new noise of its own in every window, so that p also has the mean of the derivative that persistent
    evolution strategies smooth. A p that is not finite counts as zero; this too depends on nothing but the third life.

    Attributes:
      remat: trade two more forward passes for memory.
      smooth: perturb the third particle.
    """

    remat: bool = False
    smooth: bool = False

    def particles(self, differentiate: bool) -> Particles:
        place = _beside_another if self.smooth else _beside_the_mean
        lead = _differentiated if differentiate else side_by_side
        return Particles(3, place, axis=0, keep=lambda lives: lives, lead=lead)

    def blank(self, zeros: Theta) -> tuple[()]:
        return ()

    def guesses(
        self, memory: Any, slopes: Slopes, shares: Float[Array, " parts"], team: Int[Array, ""]
    ) -> tuple[Slopes, Slopes]:
        return slopes, slopes

    def learn(self, memory: Any, plain: tuple[Theta, Float[Array, " teams"]]) -> tuple[()]:
        return ()


@dataclass(frozen=True)
class RunningMean:
    """p = exponential running mean of past plain estimates of another team of pairs; nothing is differentiated.

    With a fitted β, the estimator is a regression of loss differences on noise that remembers its last solution (past
    descent directions as in Meier, Mujika, Gauy & Steger 2019). It is worth as much as the gradient is steady.

    Attributes:
      decay: of an estimate's weight, per estimate.
    """

    decay: float = 0.9
    remat = False

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} is not in [0, 1)")

    def particles(self, differentiate: bool) -> Particles:
        return both

    def blank(self, zeros: Theta) -> Theta:
        return zeros

    def guesses(
        self, memory: Theta, slopes: Any, shares: Float[Array, " parts"], team: Int[Array, ""]
    ) -> tuple[Slopes, Slopes]:
        def of(source: Int[Array, ""]) -> Slopes:
            mean = jax.tree.map(lambda m: m[source % len(m)], memory)
            return tuple(jax.tree.map(lambda m, share=share: m * share.astype(m.dtype), mean) for share in shares)

        return of(team + 2), of(team + 1)  # team k is served by k + 2; so k - 1, fitted on k, by k + 1

    def learn(self, memory: Theta, plain: tuple[Theta, Float[Array, " teams"]]) -> Theta:
        means, counts = plain

        def mix(old: Float[Array, "teams ..."], new: Float[Array, "teams ..."]) -> Float[Array, "teams ..."]:
            lived = (counts > 0).reshape(-1, *[1] * (old.ndim - 1))
            return jnp.where(lived, self.decay * old + (1 - self.decay) * new, old).astype(old.dtype)

        return jax.tree.map(mix, memory, means)


def _beside_the_mean(theta: Theta, noise: Theta, std: float, key: PRNGKeyArray) -> Theta:
    return mirrored(theta, noise, theta)


def _beside_another(theta: Theta, noise: Theta, std: float, key: PRNGKeyArray) -> Theta:
    other = gaussian(theta, std, jax.random.fold_in(key, 2**31 - 1))  # the pair's own noise is drawn from child 0
    return mirrored(theta, noise, jax.tree.map(jnp.add, theta, other))


def _differentiated(
    live: Callable, thetas: tuple[Theta, ...], lives: Life, axis: int | None
) -> tuple[Life, Segment, Slopes]:
    """The pair through the window, and the third particle with the derivative of its mean loss."""
    both_thetas, third_theta = ([jax.tree.map(lambda x, i=i: x[i], t) for t in thetas] for i in (slice(2), 2))
    if thetas[-1] is thetas[0]:
        both_thetas = both_thetas[:1]
    both_lives, third_life = (jax.tree.map(lambda x, i=i: x[i], lives) for i in (slice(2), 2))
    pair, reports, _ = side_by_side(live, tuple(both_thetas), both_lives, axis)

    def window_loss(thetas: tuple[Theta, ...]) -> tuple[Float[Array, ""], Life]:
        life, reports = live(thetas, third_life)
        return jnp.mean(reports.loss), life

    slopes, life = jax.grad(window_loss, has_aux=True)(tuple(third_theta))
    return jax.tree.map(lambda two, one: jnp.concatenate([two, one[None]]), pair, life), reports, slopes
