"""How fast small differences between lives grow: the Lyapunov exponent, and the growth of second moments.

With J_t the derivative of segment t by the state it began from, and v a random direction,

    λ = lim 1/t E log ‖J_t … J_1 v‖,        r₂ = lim (E ‖J_t … J_1 v‖²)^(1/t)

λ > 0 is chaos: every unrolled gradient explodes (Metz et al. 2021). But the variance of unrolled gradients already
explodes where r₂ > 1, which can be while λ < 0: rare lives that grow decide the second moment, and lives as they come
would miss it. So they are resampled after every segment, in proportion to ‖J v‖² (cloning: Grassberger 1997, "go with
the winners"; Giardinà, Kurchan & Peliti 2006); the product of the mean growths is unbiased for E ‖J_t … J_1 v‖².
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.diagnostics.samples import keys_of
from truncation.diagnostics.statistics import Measured, mean_of
from truncation.lives import life_key, over_lives, strong
from truncation.problem import InnerProblem, Theta
from truncation.sensitivity import smooth_leaves


class Stability(NamedTuple):
    """Growth per segment, mean over a lifetime.

    Attributes:
      lyapunov: λ, in nats.
      second_moment: r₂; above 1, the variance of unrolled gradients grows with every segment.
      by_age: mean log growth in every segment of a lifetime: when in training it is that differences grow.
    """

    lyapunov: Measured
    second_moment: Measured
    by_age: Float[np.ndarray, " horizon"]


def stability(
    problem: InnerProblem, theta: Theta, horizon: int, lives: int, key: PRNGKeyArray, repeats: int = 8
) -> Stability:
    """Follows one random tangent per life through whole lifetimes, made a unit vector again after every segment.

    Intervals are over `repeats` independent populations of `lives` lives. A transient at the start of a lifetime
    belongs to the means: with one direction, log ‖·‖ needs a few segments to find the fastest. Lives without a state
    to differentiate have neither exponent: nan. Cost: 2 * 2 * repeats * lives * horizon segments.
    """
    keys = keys_of(key, repeats)
    populations = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: [_growth(problem, theta, horizon, lives, key, choose) for choose in (_stay, _winners)], keys
        )
    )
    plain, cloned = (np.asarray(x, np.float64) for x in populations(keys))  # [repeats, horizon, lives]
    log_growth = plain.mean(axis=2)
    peak = cloned.max(axis=2, keepdims=True)
    squares = 2 * peak[..., 0] + np.log(np.mean(np.exp(2 * (cloned - peak)), axis=2))
    second = mean_of(squares.mean(axis=1))
    return Stability(
        mean_of(log_growth.mean(axis=1)), Measured(*(float(np.exp(x)) for x in second)), log_growth.mean(axis=0)
    )


def _growth(
    problem: InnerProblem, theta: Theta, horizon: int, lives: int, key: PRNGKeyArray, choose: Callable
) -> Float[Array, "horizon lives"]:
    """log ‖J v‖ of every segment and life; `choose` says who goes on after it."""
    indices = jnp.arange(lives, dtype=jnp.int32)

    def born(theta: Theta, key: PRNGKeyArray, index: Array) -> tuple[Any, tuple]:
        life = strong(problem.start(theta, life_key(key, index)))
        directions = jax.random.fold_in(life_key(key, index), 1)
        tangent = [
            jax.random.normal(jax.random.fold_in(directions, n), x.shape, x.dtype)
            for n, x in enumerate(smooth_leaves(life)[0])
        ]
        return (life, _unit(tangent)[0]), ()

    def one(theta: Theta, key: PRNGKeyArray, state: tuple[Any, list], index: Array) -> tuple[Any, tuple]:
        life, tangent = state
        start, join = smooth_leaves(life)

        def segment(start: list) -> tuple[list, Any]:
            after = strong(problem.advance(theta, join(start), life_key(key, index))[0])
            return smooth_leaves(after)[0], after

        _, pushed, after = jax.jvp(segment, (start,), (tangent,), has_aux=True)
        tangent, length = _unit(pushed)
        return ((after, tangent), jnp.log(length)), ()

    def step(states: Any, number: Array) -> tuple[Any, Array]:
        step_key = jax.random.fold_in(key, number + 1)
        (states, growth), _ = over_lives(one, (theta, step_key), states, indices)
        chosen = choose(growth, jax.random.fold_in(step_key, lives))
        return jax.tree.map(lambda x: x[chosen], states), growth

    states, _ = over_lives(born, (theta, key), indices)
    return jax.lax.scan(step, states, jnp.arange(horizon, dtype=jnp.int32))[1]


def _stay(growth: Float[Array, " lives"], key: PRNGKeyArray) -> Array:
    return jnp.arange(len(growth))


def _winners(growth: Float[Array, " lives"], key: PRNGKeyArray) -> Array:
    """Systematic resampling in proportion to the squared growth."""
    shares = jnp.cumsum(jax.nn.softmax(2 * growth))
    points = (jnp.arange(len(growth)) + jax.random.uniform(key, dtype=growth.dtype)) / len(growth)
    return jnp.minimum(jnp.searchsorted(shares, points), len(growth) - 1)


def _unit(tangent: list) -> tuple[list, Array]:
    if not tangent:
        return tangent, jnp.array(jnp.nan)
    length = jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in tangent))
    return [x / jnp.where(length > 0, length, 1) for x in tangent], jnp.asarray(length)
