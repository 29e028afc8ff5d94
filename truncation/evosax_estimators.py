"""Strategies of evosax that follow a gradient, as estimators of that gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from truncation.lives import Tally, all_finite, check_microbatch, life_key, on_all_lives, over_lives, strong
from truncation.problem import Estimate, InnerProblem, Theta
from truncation.schedule import Lived, Schedule

WHOLE, WINDOWED = ("Open_ES", "GuidedES"), ("PersistentES", "NoiseReuseES")


class Asked(NamedTuple):
    """A strategy between two windows: its own state, and the lives of its members."""

    strategy: Any
    lives: Lived | None


@dataclass(frozen=True)
class EvosaxGradient:
    """The gradient that a strategy of evosax takes its step along.

    The strategy is built with plain gradient descent of rate 1, losses as they are and a constant std; so

        ĝ = mean_before - mean_after

    of one `ask` and `tell` is its estimate of the gradient of the smoothed loss. `Open_ES` (Salimans et al. 2017) and
    `GuidedES` (Maheswaranathan et al. 2018) live a whole lifetime per estimate, `PersistentES` (Vicol et al. 2021) and
    `NoiseReuseES` (Li et al. 2023) one window. Ours of the same names do more (ages out of step, births inside windows,
    metrics of every pair, less memory); this is for comparing, and for what evosax alone has.

    Unbiased for what ours are, with `GuidedES` up to a matrix: E ĝ = (α/n I + (1-α)/k Q Qᵀ) ∇L, with n = |θ|,
    evosax's α = 1/2 and k = 1, and Q spanning the last estimate. Its published form is a mean over pairs, evosax's a
    sum; it is divided here, or its length would grow with the population.

    What evosax assumes is guarded. All members share one counter of segments: lives are in lock-step, `window` must
    divide `horizon`, and they are evosax's K and T. Its std schedules would change std under accumulated noise: std is
    a setting. Its strategies know no broken members, and one nan is all of them: a broken pair counts with two equal
    losses, the mean is taken over the finite pairs, and the pair stays masked until the next birth of all.

    Cost of an estimate: lives * window segments (horizon for the first two). Memory: lives lives and lives copies of
    theta, twice what ours need; strategies flatten theta to single precision.

    Attributes:
      strategy: `Open_ES`, `GuidedES`, `PersistentES` or `NoiseReuseES`.
      horizon: segments in a lifetime.
      window: segments per estimate; the horizon for `Open_ES` and `GuidedES`.
      lives: members, two a pair.
      std: σ of the noise.
      microbatch: how many members run at once (0: all).

    Raises:
      ValueError: a strategy that follows no gradient, or a window that its counter cannot keep.
      ImportError: evosax is missing.
    """

    strategy: str
    horizon: int
    window: int
    lives: int
    std: float
    microbatch: int = 0

    def __post_init__(self):
        Schedule(self.horizon, self.window)
        if self.strategy not in (*WHOLE, *WINDOWED):
            legal = ", ".join((*WHOLE, *WINDOWED))
            raise ValueError(f"strategy={self.strategy!r} is none of those that follow a gradient: {legal}")
        if self.strategy in WHOLE and self.window != self.horizon:
            raise ValueError(f"window={self.window}: {self.strategy} lives whole lifetimes; nearest: {self.horizon}")
        if self.horizon % self.window:
            legal = [w for w in range(1, self.horizon + 1) if self.horizon % w == 0]
            nearest = min(legal, key=lambda w: abs(w - self.window))
            raise ValueError(f"window={self.window} does not divide horizon={self.horizon}; nearest: {nearest}")
        if self.lives < 2 or self.lives % 2:
            raise ValueError(f"lives={self.lives}: antithetic pairs need an even number, at least 2")
        if not self.std > 0:
            raise ValueError(f"std={self.std} is not positive")
        check_microbatch(self.lives, self.microbatch, unit=2)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.horizon, self.window)

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Asked:
        strategy, params = self._build(theta)
        inner = strong(strategy.init(key, jax.tree.map(jnp.zeros_like, theta), params))  # evosax's hold weak types
        if self.schedule.whole:
            return Asked(inner, None)

        def unborn(theta: Theta, key: PRNGKeyArray, index: Int[Array, ""]) -> tuple[Lived, tuple]:
            life = strong(problem.start(theta, life_key(key, index)))
            return Lived(jax.tree.map(lambda x: jnp.stack([x, x]), life), jnp.int32(self.horizon)), ()

        lives, _ = over_lives(unborn, (theta, key), self._indices(), microbatch=self.microbatch // 2)
        return Asked(inner, lives)

    def estimate(self, problem: InnerProblem, theta: Theta, state: Asked, key: PRNGKeyArray) -> tuple[Estimate, Asked]:
        """Asks for perturbations, leads the pairs that live with them through the window, tells the losses."""
        strategy, params = self._build(theta)
        key_ask, key_tell, key_lives = jax.random.split(key, 3)
        # Around zero, not around theta: so that no digits are lost where steps are small beside theta.
        noise, inner = strategy.ask(key_ask, state.strategy, params)
        pairs = jax.tree.map(lambda n: jnp.stack(jnp.split(n, 2), axis=1), noise)  # all plus members come first

        def one(theta: Theta, key: PRNGKeyArray, noise: Theta, lived: Lived | None, index: Int[Array, ""]):
            def live(noise: Theta, life: Any) -> tuple[Any, Any]:
                moved = jax.tree.map(lambda t, n: t + n.astype(t.dtype), theta, noise)
                entered = lived and Lived(life, lived.age)
                return self.schedule.live(problem, (moved, moved), entered, life_key(key, index))

            lives, reports = jax.vmap(live)(noise, lived and lived.life)
            finite = all_finite(reports.loss)
            losses = jnp.where(finite, jnp.mean(reports.loss, axis=1), 0)
            after = lived and Lived(lives, self.schedule.age_after(lived.age))
            return (after, losses), Tally.of(reports, finite)

        shared, batch = (theta, key_lives), self.microbatch // 2
        (lives, losses), tally = over_lives(one, shared, pairs, state.lives, self._indices(), microbatch=batch)
        losses = on_all_lives(lambda losses: losses.T.reshape(-1), losses)
        told, _ = strategy.tell(key_tell, noise, losses, inner, params)
        mean_over = self.lives // 2 if self.strategy != "GuidedES" else 1
        flat = -told.mean * mean_over / jnp.maximum(tally.finite, 1)
        gradient = jax.tree.map(lambda g, t: g.astype(t.dtype), strategy._unravel_solution(flat), theta)
        told = told.replace(mean=jnp.zeros_like(told.mean))
        if self.strategy == "GuidedES":
            told = told.replace(grad=flat.astype(told.grad.dtype))
        told = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), told, state.strategy)
        return Estimate(gradient, *tally.mean(self.lives // 2)), Asked(told, lives)

    def _indices(self) -> Int[Array, " pairs"]:
        return jnp.arange(self.lives // 2, dtype=jnp.int32)

    def _build(self, theta: Theta) -> tuple[Any, Any]:
        """evosax hashes strategies by identity, so this is called inside the one jitted program that uses it."""
        import optax
        from evosax.algorithms import algorithms
        from evosax.core.fitness_shaping import identity_fitness_shaping_fn

        strategy = algorithms[self.strategy](
            self.lives,
            theta,
            optimizer=optax.sgd(1.0),
            std_schedule=optax.constant_schedule(self.std),
            fitness_shaping_fn=identity_fitness_shaping_fn,
            metrics_fn=lambda *_: {},
        )
        params = strategy.default_params
        return strategy, params.replace(T=self.horizon, K=self.window) if self.strategy in WINDOWED else params
