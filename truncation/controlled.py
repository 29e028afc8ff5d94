"""The core with a control variate: every pair is corrected by a guess whose coefficient other pairs have fitted."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from truncation.antithetic import Antithetic, Led, Pair
from truncation.controls import Control, Slopes
from truncation.lives import Tally, life_key, over_lives
from truncation.noise import Arm
from truncation.problem import Estimate, InnerProblem, Theta

TEAMS = 3  # one that is corrected, one that its coefficient is fitted on, one that a shared guess comes from


@dataclass(frozen=True)
class Fitted:
    """Least squares of loss differences on those that the guess predicts, δ ≈ β ε·p, over another team of pairs.

        β_k = S(δ ε·p) / S((ε·p)²),   S = sum over the pairs of team k + 1, in this estimate and (decayed) earlier ones

    Attributes:
      decay: weight of an estimate in the sums, relative to its successor; 0: this estimate alone.
    """

    decay: float = 0.9

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} is not in [0, 1)")


class Terms(NamedTuple):
    """Of one pair, or summed by teams: the plain estimate a, the correction b (of mean zero), δ ε·p and (ε·p)²."""

    plain: Theta
    correction: Theta
    products: Float[Array, "*teams 2"]
    finite: Float[Array, "*teams"]


class Corrected(NamedTuple):
    """Pairs between two windows; what the control remembers; S(δ ε·p) and S((ε·p)²) of every team."""

    pairs: Pair | None
    memory: Any
    sums: Float[Array, "teams 2"]


@dataclass(frozen=True)
class Controlled:
    """Adds beta times a correction of mean zero to what a core estimates; what the public estimators delegate to."""

    core: Antithetic
    control: Control
    beta: Fitted | float

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Corrected:
        core = replace(self.core, particles=self.control.particles(differentiate=False))
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(theta))
        blank = jax.tree.map(lambda t: jnp.zeros((TEAMS, *t.shape), t.dtype), theta)
        return Corrected(core.init(problem, theta, key), self.control.blank(blank), jnp.zeros((TEAMS, 2), dtype))

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Corrected, key: PRNGKeyArray
    ) -> tuple[Estimate, Corrected]:
        """Leads every pair through one window, adds up terms by teams, and corrects each team by what others know."""
        schedule = replace(self.core.schedule, remat=self.control.remat)
        core = replace(self.core, schedule=schedule, particles=self.control.particles(differentiate=True))

        def one(theta: Theta, key: PRNGKeyArray, memory: Any, pair: Pair | None, index: Int[Array, ""]):
            team = index % TEAMS
            led = core.led(problem, theta, life_key(key, index), pair)
            terms = self._terms(led, pair, memory, team)
            member = jnp.arange(TEAMS) == team
            by_team = jax.tree.map(lambda x: jnp.where(member.reshape(-1, *[1] * x.ndim), x[None], 0), terms)
            return led.after, (by_team, led.tally)

        shared = theta, key, state.memory
        indices = jnp.arange(core.pairs, dtype=jnp.int32)
        pairs, (terms, tally) = over_lives(one, shared, state.pairs, indices, microbatch=core.microbatch // 2)
        sums = terms.products + self.decay * state.sums
        gradient = self._gradient(terms, sums, tally)
        memory = self.control.learn(state.memory, _team_means(terms))
        return Estimate(gradient, *tally.mean(core.pairs)), Corrected(pairs, memory, sums.astype(state.sums.dtype))

    @property
    def decay(self) -> float:
        return self.beta.decay if isinstance(self.beta, Fitted) else 0.0

    def _gradient(self, terms: Terms, sums: Float[Array, "teams 2"], tally: Tally) -> Theta:
        if isinstance(self.beta, Fitted):
            others = jnp.roll(sums, -1, axis=0)  # team k + 1 at k
            beta = others[:, 0] / jnp.where(others[:, 1] > 0, others[:, 1], 1)
            beta = jnp.where(jnp.isfinite(beta), beta, 0)
        else:
            beta = jnp.full(TEAMS, self.beta, sums.dtype)

        def total(plain: Float[Array, "teams ..."], correction: Float[Array, "teams ..."]) -> Float[Array, "..."]:
            weight = beta.reshape(-1, *[1] * (plain.ndim - 1))
            return (jnp.sum(plain + weight * correction, axis=0) / jnp.maximum(tally.finite, 1)).astype(plain.dtype)

        return jax.tree.map(total, terms.plain, terms.correction)

    def _terms(self, led: Led, pair: Pair | None, memory: Any, team: Int[Array, ""]) -> Terms:
        """The terms of one pair. Its own team and the team that fits on it look at different guesses."""
        losses, valid = led.outcome
        differences = jnp.where(valid, (losses[:, 0] - losses[:, 1]) / 2, 0)
        variance = self.core.std**2
        plain = _sum([_scaled(arm.credit, d / variance) for arm, d in zip(led.arms, differences, strict=True)])
        shares = self.core.schedule.shares(pair.lived.age if pair else None)
        own, fitted = (
            _usable(guess, jnp.any(valid)) for guess in self.control.guesses(memory, led.slopes, shares, team)
        )
        correction = _sum([_correction(arm, p, variance) for arm, p in zip(led.arms, own, strict=True)])
        predicted = jnp.stack([_dot(arm.noise, p) for arm, p in zip(led.arms, fitted, strict=True)])
        products = jnp.stack([jnp.sum(differences * predicted), jnp.sum(predicted**2)])
        return Terms(plain, correction, products, led.tally.finite)


def _correction(arm: Arm, slope: Theta, variance: float) -> Theta:
    """b = p - ξ (ε·p) / σ²."""
    inner = _dot(arm.noise, slope) / variance
    return jax.tree.map(lambda p, c: p - c * inner.astype(c.dtype), slope, arm.credit)


def _usable(slopes: Slopes, valid: Bool[Array, ""]) -> Slopes:
    """The guess, or zero if it is too large to compute with or not wanted; neither depends on the noise it meets."""
    finite = jnp.stack([jnp.isfinite(_dot(p, p) ** 2) for p in slopes])
    return jax.tree.map(lambda p: jnp.where(valid & jnp.all(finite), p, 0), slopes)


def _dot(one: Theta, other: Theta) -> Float[Array, ""]:
    """Inner product of two pytrees, at least in single precision."""
    leaves = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    wide = [(jnp.promote_types(a.dtype, jnp.float32), a, b) for a, b in leaves]
    return jnp.sum(jnp.stack([jnp.sum(a.astype(t) * b.astype(t)) for t, a, b in wide]))


def _scaled(tree: Theta, weight: Float[Array, ""]) -> Theta:
    return jax.tree.map(lambda x: x * weight.astype(x.dtype), tree)


def _sum(trees: list[Theta]) -> Theta:
    return jax.tree.map(lambda *parts: sum(parts), *trees)


def _team_means(terms: Terms) -> tuple[Theta, Float[Array, " teams"]]:
    """Mean plain estimate of every team, and of how many finite pairs."""

    def mean(total: Float[Array, "teams ..."]) -> Float[Array, "teams ..."]:
        count = jnp.maximum(terms.finite, 1).reshape(-1, *[1] * (total.ndim - 1))
        return (total / count).astype(total.dtype)

    return jax.tree.map(mean, terms.plain), terms.finite
