"""The core of all antithetic evolution strategies: perturb a pair, live a window, credit the difference.

A pair of particles lives with theta ± ε, under the same random numbers. With L± the mean losses over the window,

    ĝ = 1/pairs Σ_pairs ξ (L+ - L-) / (2 σ²)

Estimators differ in three choices, and in nothing else: how long a noise is kept and what the losses are credited with
(`Noise`), and which states are carried from window to window (`Particles`).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from truncation.lives import Tally, all_finite, check_microbatch, life_key, on_all_lives, over_lives, select, strong
from truncation.noise import Arm, Noise, Trace, every_window
from truncation.particles import Particles, both
from truncation.problem import Estimate, InnerProblem, Life, Segment, Theta
from truncation.schedule import Lived, Schedule
from truncation.shaping import Shaping


class Pair(NamedTuple):
    """An antithetic pair between two windows."""

    lived: Lived
    trace: Trace


class Outcome(NamedTuple):
    """What a pair's window is worth: losses by part (of the old and of the new lifetime) and particle."""

    losses: Float[Array, "parts 2"]
    valid: Bool[Array, " parts"]


class Led(NamedTuple):
    """A pair that was led through a window."""

    after: Pair | None
    arms: tuple[Arm, ...]
    outcome: Outcome
    slopes: Any
    tally: Tally


@dataclass(frozen=True)
class Antithetic:
    """Antithetic evolution strategy over a schedule; what the public estimators delegate to."""

    schedule: Schedule
    lives: int
    std: float
    microbatch: int
    shaping: Shaping
    noise: Noise = every_window
    particles: Particles = both

    def __post_init__(self):
        if self.lives < 2 or self.lives % 2:
            raise ValueError(f"lives={self.lives}: antithetic pairs need an even number, at least 2")
        if not self.std > 0:
            raise ValueError(f"std={self.std} is not positive")
        check_microbatch(self.lives, self.microbatch, unit=2)

    @property
    def pairs(self) -> int:
        return self.lives // 2

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Pair | None:
        """Pairs of the scheduled ages, aged with the estimator's own noise: the first estimate is as good as any."""
        if self.schedule.whole:
            return None
        windows, ages = self.schedule.burn_in(self.pairs)

        def unborn(theta: Theta, key: PRNGKeyArray, index: Int[Array, ""], age: Int[Array, ""]) -> tuple[Pair, tuple]:
            pair_key = life_key(key, index)
            life = strong(problem.start(theta, pair_key))
            if self.particles.axis is not None:
                life = jax.tree.map(lambda x: jnp.stack([x] * self.particles.number), life)
            return Pair(Lived(life, age), self.noise.blank(theta, self._noise_key(pair_key))), ()

        def window(pairs: Pair | None, number: Int[Array, ""]) -> tuple[Pair | None, None]:
            return self._advance(problem, theta, pairs, jax.random.fold_in(key, number))[0], None

        shared = theta, jax.random.fold_in(key, windows)
        pairs, _ = over_lives(unborn, shared, self._indices(), ages, microbatch=self.microbatch // 2)
        if windows:
            pairs, _ = jax.lax.scan(window, pairs, jnp.arange(windows, dtype=jnp.int32))
        return pairs

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Pair | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Pair | None]:
        """Leads every pair through one window, then credits the noise with the (shaped) differences."""
        after, outcomes, tally = self._advance(problem, theta, state, key)
        weights = on_all_lives(lambda outcomes: _weights(self.shaping, outcomes), outcomes)
        total = self._credited(theta, state, weights, key)
        scale = 1 / (self.std**2 * jnp.maximum(tally.finite, 1))
        gradient = jax.tree.map(lambda g: (g * scale).astype(g.dtype), total)
        return Estimate(gradient, *tally.mean(self.pairs)), after

    def _indices(self) -> Int[Array, " pairs"]:
        return jnp.arange(self.pairs, dtype=jnp.int32)

    def _noise_key(self, pair_key: PRNGKeyArray) -> PRNGKeyArray:
        return jax.random.fold_in(pair_key, self.schedule.window + 1)  # the segments and the birth use 0..window

    def _arms(self, theta: Theta, trace: Trace, age: Int[Array, ""] | None, key: PRNGKeyArray) -> tuple[Arm, ...]:
        """The arms of a window: one if no birth can fall inside it, else that of the old and of the new lifetime."""
        noise_key = self._noise_key(key)
        if age is None:
            return self.noise.draw(theta, self.std, self.noise.blank(theta, noise_key), noise_key)[1:]
        old, new = self.noise.draw(theta, self.std, trace, noise_key)
        if self.schedule.aligned:
            return (old if old is new else select(self.schedule.reborn(age), new, old),)
        return old, new

    def _advance(
        self, problem: InnerProblem, theta: Theta, pairs: Pair | None, key: PRNGKeyArray
    ) -> tuple[Pair | None, Outcome, Tally]:
        """All pairs through one window."""

        def one(theta: Theta, key: PRNGKeyArray, pair: Pair | None, index: Int[Array, ""]) -> tuple[Any, Tally]:
            led = self.led(problem, theta, life_key(key, index), pair)
            return (led.after, led.outcome), led.tally

        (after, outcomes), tally = over_lives(
            one, (theta, key), pairs, self._indices(), microbatch=self.microbatch // 2
        )
        return after, outcomes, tally

    def led(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray, pair: Pair | None) -> Led:
        """One pair through one window; `key` is the pair's."""
        lived, trace = pair or (None, None)
        age = lived.age if lived else None
        arms = self._arms(theta, trace, age, key)
        old = new = self.particles.thetas(theta, arms[0].noise, self.std, self._noise_key(key))
        if arms[-1].noise is not arms[0].noise:
            new = self.particles.thetas(theta, arms[-1].noise, self.std, self._noise_key(key))

        def live(thetas: tuple[Theta, ...], life: Life | None) -> tuple[Life, Segment]:
            entered = lived and Lived(life, lived.age)
            return self.schedule.live(problem, (thetas[0], thetas[-1]), entered, key)

        axis = self.particles.axis if lived else None
        lives, reports, slopes = self.particles.lead(live, (old, new)[: len(arms)], lived and lived.life, axis)
        reports = jax.tree.map(lambda x: x[:2], reports)
        finite = all_finite(reports.loss)
        outcome = self._outcome(reports.loss, age, finite)
        return Led(self._after(lived, lives, arms, finite), arms, outcome, slopes, Tally.of(reports, finite))

    def _outcome(self, losses: Float[Array, "2 window"], age: Any, finite: Bool[Array, ""]) -> Outcome:
        if age is None or self.schedule.aligned:
            return Outcome(jnp.mean(losses, axis=1)[None], finite[None])
        newborn = self.schedule.newborn(age)
        parts = jnp.stack([~newborn, newborn])
        sums = jnp.sum(jnp.where(parts[:, None, :], losses[None], 0), axis=2)
        return Outcome(sums / self.schedule.window, finite & jnp.any(parts, axis=1))

    def _after(self, lived: Lived | None, lives: Life, arms: tuple[Arm, ...], finite: Bool[Array, ""]) -> Pair | None:
        """The pair as it leaves the window; a dead one is due, which also empties its trace."""
        if lived is None:
            return None
        trace = select(self.schedule.reborn(lived.age), arms[-1].trace, arms[0].trace)
        age = jnp.where(finite, self.schedule.age_after(lived.age), self.schedule.horizon)
        return Pair(Lived(self.particles.keep(lives), age), trace)

    def _credited(
        self, theta: Theta, pairs: Pair | None, weights: Float[Array, "pairs parts"], key: PRNGKeyArray
    ) -> Theta:
        """Σ_pairs Σ_parts ξ w, with the noise drawn again."""

        def one(theta: Theta, key: PRNGKeyArray, trace: Trace, age: Any, weight: Array, index: Int[Array, ""]):
            arms = self._arms(theta, trace, age, life_key(key, index))
            terms = [
                jax.tree.map(lambda c, w=w: c * w.astype(c.dtype), arm.credit)
                for arm, w in zip(arms, weight, strict=True)
            ]
            return (), jax.tree.map(lambda *parts: sum(parts), *terms)

        trace, age = (pairs.trace, pairs.lived.age) if pairs else (None, None)
        return over_lives(one, (theta, key), trace, age, weights, self._indices(), microbatch=self.microbatch // 2)[1]


def _weights(shaping: Shaping, outcomes: Outcome) -> Float[Array, "pairs parts"]:
    """(f+ - f-) / 2 of every pair and part, zero where there is nothing to credit."""
    losses, valid = outcomes.losses.reshape(-1, 2), outcomes.valid.reshape(-1)
    fitness = shaping(jnp.where(valid[:, None], losses, 0), valid)
    return jnp.where(valid, (fitness[:, 0] - fitness[:, 1]) / 2, 0).reshape(outcomes.valid.shape)
