"""Problems with a known gradient, by name: what `learned-rl bias` measures on when it is given no recipe."""

from dataclasses import dataclass

import jax.numpy as jnp

from truncation.problem import InnerProblem, Theta
from truncation.problems import (
    Bandit,
    Influence,
    Kesten,
    LinearQuadratic,
    Lorenz,
    NoisyQuadratic,
    ToySchedule,
)


@dataclass(frozen=True)
class Oracle:
    """An inner problem at one theta, and settings that suit it.

    Attributes:
      problem: the inner problem.
      theta: where the gradient is taken.
      horizon, window: segments in a lifetime, and in an estimate.
      std: σ of perturbations.
      rate: of gradient descent, for hysteresis.
      steps: inner steps in a segment.
      chaotic: the derivative of a life says nothing about its smoothed loss, which is taken for the truth.
      sampling: what is sampled in a life depends on theta.
    """

    problem: InnerProblem
    theta: Theta
    horizon: int
    window: int
    std: float
    rate: float
    steps: int = 1
    chaotic: bool = False
    sampling: bool = False


def influence_balancing() -> Oracle:
    """A linear system whose gradient has the wrong sign in windows of up to 40 segments (Vicol et al. 2021)."""
    return Oracle(Influence(), jnp.array(0.5), horizon=100, window=10, std=0.1, rate=1e-4)


def linear_quadratic() -> Oracle:
    """LQ-20: deterministic, quadratic, known to twelve digits."""
    return Oracle(LinearQuadratic(), jnp.array([0.1, -0.2, 0.3]), horizon=20, window=5, std=0.1, rate=1e-3)


def kesten() -> Oracle:
    """Random growth: second moments explode while typical lives contract, so that there is a best window."""
    return Oracle(Kesten(0.9, 0.45), jnp.zeros(8), horizon=64, window=16, std=0.1, rate=1e-3)


def lorenz() -> Oracle:
    """Chaos: 2000 steps of Lorenz's system, where backprop is a thousand times too long (Li et al. 2023)."""
    theta = jnp.array([3.116, 3.7])
    return Oracle(Lorenz(), theta, horizon=20, window=1, std=0.04, rate=1e-5, steps=100, chaotic=True)


def schedule() -> Oracle:
    """A schedule of learning rates for a toy regression, where truncation gets stuck (Vicol et al. 2021)."""
    return Oracle(ToySchedule(), jnp.array([-4.0, -4.0]), horizon=100, window=10, std=0.3, rate=0.2)


def noisy_quadratic() -> Oracle:
    """A schedule of learning rates under gradient noise, judged at the end (short-horizon bias; Wu et al. 2018)."""
    return Oracle(NoisyQuadratic(), jnp.array([-1.0, -1.0]), horizon=100, window=16, std=0.1, rate=0.1)


def bandit() -> Oracle:
    """Policy gradient on three arms: what is sampled depends on theta, so that pathwise derivatives are biased."""
    return Oracle(Bandit(), jnp.log(jnp.array(2.0)), horizon=3, window=1, std=0.1, rate=0.03, sampling=True)
