"""Forward mode: all of the influence of theta on a life, a random rank one of it, or one direction."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.cohort import masked
from truncation.lives import select
from truncation.noise import Noise
from truncation.noise_reuse import for_life
from truncation.problem import InnerProblem, Segment, Theta
from truncation.schedule import Lived
from truncation.sensitivity import Carries, Forward, Sensitive, Smooth, smooth_leaves, unrolled, zeros


@dataclass(frozen=True)
class RTRL(Forward):
    """Real-time recurrent learning (Williams & Zipser 1989): all of J, one tangent per coordinate of theta.

        J' = A J + B,   ĝ_w = dL_w/ds J + dL_w/dθ

    At fixed theta it equals back-propagation through whole lifetimes exactly, with windows of any length; where theta
    moves inside lifetimes J is stale (hysteresis). Right for a handful of meta-parameters.

    Cost of an estimate: lives * window segments, (1 + P) times forward. Memory: (1 + P) lives per life, also between
    estimates, and no residuals. The life must be differentiable in forward mode.
    """

    def _carries(self, problem: InnerProblem) -> Carries:
        def begin(theta: Theta, key: PRNGKeyArray, lived: Lived) -> Sensitive:
            size = ravel_pytree(theta)[0].size
            return Sensitive(lived, [jnp.zeros((size, *x.shape), x.dtype) for x in smooth_leaves(lived.life)[0]], ())

        def window(theta: Theta, key: PRNGKeyArray, state: Sensitive | None) -> tuple[Any, Theta, Segment]:
            flat, unravel = ravel_pytree(theta)
            inner, start = unrolled(self.schedule, problem, state, key)

            def along(direction: Array, tangent: Smooth | None) -> Any:
                moved = unravel(direction)
                _, pushed, aux = jax.jvp(inner, ((theta, theta), start), ((moved, moved), tangent or []), has_aux=True)
                return pushed, aux

            axes = (0, 0 if state else None)
            (tangent, slopes), (life, reports) = jax.vmap(along, axes, (0, None))(
                jnp.eye(flat.size, dtype=flat.dtype), state and state.tangent
            )
            gradient = unravel(jnp.mean(slopes, axis=1).astype(flat.dtype))
            return self._after(state, life, tangent, (), reports.loss), gradient, reports

        return Carries(begin, window)


@dataclass(frozen=True)
class UORO(Forward):
    """Unbiased online recurrent optimization (Tallec & Ollivier 2018): a random rank one of J.

        s̃' = ρ₀ A s̃ + ρ₁ ν,   θ̃' = θ̃ / ρ₀ + νᵀ B / ρ₁,   ĝ_w = (dL_w/ds s̃) θ̃ + dL_w/dθ

    with signs ν at random and ρ² the ratios of the norms of what they scale, so that E s̃ θ̃ᵀ = J. Unbiased for the
    gradient of the mean segment loss at fixed theta. The variance grows with the size of the life. Departures: the
    step is a window of any length, and what happens inside it is differentiated exactly, where the published algorithm
    sends also that through the random rank one (LQ-20, window 1: variance .88 against 1.31 ‖G‖²); A s̃ is an exact
    derivative, where published code takes finite differences.

    Cost of an estimate: lives * window segments, twice forward and once forward and twice backward. Memory: two lives
    and a theta per life between estimates, residuals of `window` segments in one.
    """

    def _carries(self, problem: InnerProblem) -> Carries:
        def begin(theta: Theta, key: PRNGKeyArray, lived: Lived) -> Sensitive:
            return Sensitive(lived, zeros(smooth_leaves(lived.life)[0]), zeros(theta))

        def window(theta: Theta, key: PRNGKeyArray, state: Sensitive | None) -> tuple[Any, Theta, Segment]:
            inner, start = unrolled(self.schedule, problem, state, key)
            (end, losses), pull, (life, reports) = jax.vjp(
                lambda theta: inner((theta, theta), start), theta, has_aux=True
            )
            even = jnp.full_like(losses, 1 / self.window)
            (gradient,) = pull((zeros(end), even))
            if state is None:
                return None, gradient, reports
            _, (carried, slopes), _ = jax.jvp(
                lambda start: inner((theta, theta), start), (start,), (state.tangent,), has_aux=True
            )
            gradient = jax.tree.map(lambda g, m: g + (jnp.mean(slopes) * m).astype(g.dtype), gradient, state.memory)
            signs = _signs(end, jax.random.fold_in(key, self.window + 1))  # the segments and the birth use 0..window
            (drawn,) = pull((signs, jnp.zeros_like(losses)))
            tangent, memory = _joined((carried, state.memory), (signs, drawn))
            return self._after(state, life, tangent, memory, reports.loss), gradient, reports

        return Carries(begin, window)


@dataclass(frozen=True)
class ForwardGradient(Forward):
    """Directional forward gradients (DODGE; Silver et al. 2022): one direction of J per life.

        c' = A c + B u,   ĝ_w = (dL_w/ds c + dL_w/dθ u) ξ,   u ~ N(0, I)

    How long a direction is kept and what it is credited with is the same choice as in evolution strategies, of which
    this is the limit σ → 0: `noise_reuse.for_life` keeps it for a lifetime (ξ = u), `persistent.accumulated` draws one
    every window and credits the sum since the birth. Unbiased for the gradient of the mean segment loss at fixed theta.
    The variance is that of the strategy: (P+1) ‖G_w‖² with one direction per lifetime.

    Cost of an estimate: lives * window segments, twice forward. Memory: two lives per life, and no residuals.

    Attributes:
      noise: how long a direction is kept.
    """

    noise: Noise = for_life

    def _carries(self, problem: InnerProblem) -> Carries:
        def begin(theta: Theta, key: PRNGKeyArray, lived: Lived) -> Sensitive:
            return Sensitive(lived, zeros(smooth_leaves(lived.life)[0]), self.noise.blank(theta, key))

        def window(theta: Theta, key: PRNGKeyArray, state: Sensitive | None) -> tuple[Any, Theta, Segment]:
            noise_key = jax.random.fold_in(key, self.window + 1)  # the segments and the birth use 0..window
            trace = state.memory if state else self.noise.blank(theta, noise_key)
            old, new = self.noise.draw(theta, 1.0, trace, noise_key)
            inner, start = unrolled(self.schedule, problem, state, key)
            directions = ((old.noise, new.noise), state.tangent if state else [])
            _, (tangent, slopes), (life, reports) = jax.jvp(inner, ((theta, theta), start), directions, has_aux=True)
            newborn = self.schedule.newborn(state.lived.age) if state else jnp.ones(self.window, bool)
            before, after = (jnp.mean(jnp.where(part, slopes, 0)) for part in (~newborn, newborn))
            gradient = jax.tree.map(lambda o, n: (before * o + after * n).astype(o.dtype), old.credit, new.credit)
            memory = select(self.schedule.reborn(state.lived.age), new.trace, old.trace) if state else ()
            return self._after(state, life, tangent, memory, reports.loss), gradient, reports

        return Carries(begin, window)


def _joined(carried: tuple[Smooth, Theta], drawn: tuple[Smooth, Theta]) -> tuple[Smooth, Theta]:
    """The sum of two rank ones, as one whose expectation it is."""
    scales = [_balance(tangent, memory) for tangent, memory in (carried, drawn)]

    def added(index: int, power: int) -> Any:
        parts = [
            jax.tree.map(lambda x, s=scale: x * (s**power).astype(x.dtype), pair[index])
            for pair, scale in zip((carried, drawn), scales, strict=True)
        ]
        # A product of which one factor vanished (at a birth, say) is gone, and must not leave the other behind.
        alive = [_norm(pair[0]) * _norm(pair[1]) > 0 for pair in (carried, drawn)]
        return jax.tree.map(jnp.add, *[masked(a, part) for a, part in zip(alive, parts, strict=True)])

    return added(0, 1), added(1, -1)


def _balance(tangent: Smooth, memory: Theta) -> Float[Array, ""]:
    """ρ, which makes both factors of a rank one equally long."""
    lengths = _norm(memory), _norm(tangent)
    both = (lengths[0] > 0) & (lengths[1] > 0)
    return jnp.where(both, jnp.sqrt(lengths[0] / jnp.where(both, lengths[1], 1)), 1)


def _norm(tree: Any) -> Float[Array, ""]:
    return jnp.sqrt(
        sum(jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32)))) for x in jax.tree.leaves(tree))
    )


def _signs(like: Smooth, key: PRNGKeyArray) -> Smooth:
    return [jax.random.rademacher(jax.random.fold_in(key, n), x.shape, x.dtype) for n, x in enumerate(like)]
